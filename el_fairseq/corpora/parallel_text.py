"""A corpus of one's own: plain text files, a sentence a line, in two languages.

PREFIX.de and PREFIX.en, UTF-8, or packed as PREFIX.de.gz, become a corpus like the others. White
space is folded to single spaces. Training pairs are dropped where a side is empty, too long, or
much longer than the other; those to validate and test on never.
"""

from functools import partial
from pathlib import Path

from ..common.cli import UserError, matching, run, whole_number
from . import pairs
from .languages import writes_without_spaces
from .prepare import DATA, POOL_HELP, named_tests, parser_of, prepare, say
from .sources import checksum

PIECES = 8000
MAX_RATIO = 3.0
LONGEST = {"tokens": 175, "characters": 1000}  # of sentences to train on, by unit
# The options that shape a corpus, besides its sizes.
OPTIONS = ("tokenizer", "lowercase", "dictionaries", "max_ratio", "drop_test_duplicates")


def path_of(prefix, language):
    """The file ``PREFIX.LANGUAGE``, or ``PREFIX.LANGUAGE.gz``; raises :class:`UserError`."""
    plain, packed = Path(f"{prefix}.{language}"), Path(f"{prefix}.{language}.gz")
    for path in (plain, packed):
        if path.is_file():
            return path
    raise UserError(f"there is no {plain} (nor {packed.name}): give the path without .{language}")


def unit_of(languages):
    """Sentences are measured in tokens, or in characters if a language has no spaces."""
    return "characters" if any(map(writes_without_spaces, languages)) else "tokens"


def write_text(parts, languages, settings, folder):
    """Write ``text/`` and, for tokenized corpora, ``references/``; returns the manifest so far.

    ``parts`` has both paths of each subset, the test sets last; ``settings``, the options by name.
    """
    say("Reading, filtering and tokenizing.")
    tokenizer = "moses" if settings["tokenizer"] == "moses" else None
    form = {"tokenizer": tokenizer, "lowercased": settings["lowercase"]}
    limits = settings["max_tokens"], settings["max_ratio"], unit_of(languages)
    tested = set(), set()  # the sentences of the test sets, by side
    duplicates = 0

    def placed():
        nonlocal duplicates
        for subset in [*parts][::-1]:  # training text last, to be compared with the test sets
            for pair in pairs.read_pairs(parts[subset], languages=languages, form=form):
                reason = None
                if subset == "train":
                    reason = pairs.reason_to_drop(*pair, *limits)
                    if not reason and any(map(set.__contains__, tested, pair)):
                        duplicates += 1
                        if settings["drop_test_duplicates"]:
                            reason = "a side stands in a test set"
                elif subset != "valid":
                    for sentence, side in zip(pair, tested):
                        side.add(sentence)
                yield reason or subset, pair

    written = pairs.write(folder, languages, parts, placed())
    if tokenizer:
        targets = {subset: both[1] for subset, both in parts.items()}
        pairs.write_references(folder, languages[1], targets, settings["lowercase"])
    if duplicates and not settings["drop_test_duplicates"]:
        say(
            f"note: {duplicates:,} training pairs share a sentence with a test set; "
            "--drop-test-duplicates leaves them out"
        )
    return {
        "corpus": f"text files {', '.join(path.name for path in parts['train'])}, ...",
        **form,
        "training pairs with a sentence of a test set": duplicates,
        **written,
        "tests": settings["tests"],
        "all": settings["pool_tests"],
    }


def main():
    parser = parser_of("parallel-text", __doc__, "SOURCE-TARGET")
    # Without a hyphen, by which fairseq separates the languages.
    code = matching("[A-Za-z][A-Za-z0-9_]*", "a code of letters, digits and _, such as de or pt_br")
    count, flag, add = whole_number(1), {"action": "store_true"}, parser.add_argument
    for side in ("source", "target"):
        add(f"--{side}", type=code, required=True, metavar="CODE", help="what its files end in")
    add("--train", required=True, metavar="PREFIX", help="text to train on")
    add("--valid", required=True, metavar="PREFIX", help="text to validate on")
    several = "a test set; several are all translated, scored and tabled"
    add("--test", required=True, action="append", metavar="[NAME=]PREFIX", help=several)
    add("--pool-tests", **flag, help=POOL_HELP)
    tokenized = "cut words from punctuation (default: none, as SentencePiece needs)"
    add("--tokenizer", choices=("none", "moses"), default="none", help=tokenized)
    add("--lowercase", **flag, help="lowercase all text, references too")
    sizes = parser.add_mutually_exclusive_group()
    pieces = f"SentencePiece with a joint vocabulary of N (default: {PIECES})"
    sizes.add_argument("--pieces", type=count, metavar="N", help=pieces)
    merges = "instead: subword-nmt's BPE with N joint merges"
    sizes.add_argument("--merges", type=count, metavar="N", help=merges)
    joined = "one for both languages, as --share-all-embeddings needs, or two (default: joined)"
    add("--dictionaries", choices=("joined", "separate"), default="joined", help=joined)
    longest = (
        f"drop training pairs of which a side has more tokens (default: {LONGEST['tokens']}), "
        f"or characters where a language writes without spaces ({LONGEST['characters']})"
    )
    add("--max-tokens", type=count, metavar="N", help=longest)
    longer = "and those of which one is R times longer (default: %(default)g)"
    add("--max-ratio", type=float, default=MAX_RATIO, metavar="R", help=longer)
    known = "and those of which a side is a sentence of a test set (always counted)"
    add("--drop-test-duplicates", **flag, help=known)
    options = parser.parse_args()
    languages = options.source, options.target
    if options.source == options.target:
        raise UserError(f"--source and --target are both {options.source}: expected two languages")
    tests, prefixes = named_tests(options.test)
    prefixes = {"train": options.train, "valid": options.valid, **prefixes}
    parts = {
        subset: [path_of(prefix, language) for language in languages]
        for subset, prefix in prefixes.items()
    }
    unit, size = ("merges", options.merges) if options.merges else ("pieces", options.pieces)
    settings = {
        **{name: getattr(options, name) for name in OPTIONS},
        "pool_tests": options.pool_tests,
        "max_tokens": options.max_tokens or LONGEST[unit_of(languages)],
        unit: size or PIECES,
        "tests": tests,
    }
    for subset, paths in parts.items():
        for side, path in zip(languages, paths):
            settings[f"{subset}.{side}"] = checksum(path, "sha256")

    out = options.out or DATA / "-".join(languages)
    write = partial(write_text, parts, languages, settings)
    prepare(out, settings, write, joined=options.dictionaries == "joined")


if __name__ == "__main__":
    run(main)
