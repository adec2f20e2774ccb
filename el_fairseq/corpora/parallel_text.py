"""A corpus of one's own: plain text files, a sentence a line, in two languages.

PREFIX.de and PREFIX.en, UTF-8, also packed (PREFIX.de.gz), become a corpus like the others. White
space is folded to single spaces. Training pairs are dropped where a side is empty, too long, or
much longer than the other; those to validate and test on never.
"""

import functools
import re
from pathlib import Path

from ..common.cli import UserError, argument, run, whole_number
from .checksums import checksum
from .languages import characters_in, writes_without_spaces
from .moses import lowercase, tokenized, tool
from .pairs import Text, folded, reason_to_drop, tokens_in, write_references
from .prepare import (
    POOL_HELP,
    add_workers,
    given_options,
    name_of,
    out_of,
    parser_of,
    prepare,
    say,
)
from .subwords import refuse_symbols

DEFAULTS = {
    **{"tokenizer": "none", "lowercase": False, "dictionaries": "joined", "pieces": 8000},
    **{"max_tokens": 175, "max_ratio": 3.0, "drop_test_duplicates": False, "pool_tests": False},
}
MAX_CHARACTERS = 1000
_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TEST_NAME = re.compile(r"[A-Za-z0-9._-]+")


def paths_of(prefix, languages):
    """The files ``PREFIX.LANGUAGE``, or ``PREFIX.LANGUAGE.gz``, of both languages.

    Raises:
        UserError: a file is not there, is there twice, or is empty.
    """
    paths = []
    for language in languages:
        plain = Path(f"{prefix}.{language}")
        packed = Path(f"{plain}.gz")
        found = [path for path in (plain, packed) if path.exists()]
        if not found:
            raise UserError(f"there is no {plain} (nor {packed.name}): name what stands before it")
        if len(found) > 1:
            raise UserError(f"there are both {plain} and {packed.name}: move one of them away")
        if not found[0].is_file() or not found[0].stat().st_size:
            raise UserError(f"{found[0]} is empty, or no file: expected one sentence a line")
        paths.append(found[0])
    return paths


def named_tests(texts):
    """Prefixes of test sets by name, from ``NAME=PREFIX`` or ``PREFIX``.

    A set without a name has that of its subset: ``test``, ``test1``, ...

    Raises:
        UserError: a name is there twice, or that of another subset.
    """
    tests = {}
    for number, text in enumerate(texts):
        subset = nth_test(number)
        name, equals, prefix = text.partition("=")
        if not equals or not _TEST_NAME.fullmatch(name):
            name, prefix = subset, text
        if name in tests or (re.fullmatch(r"train|valid|all|test\d*", name) and name != subset):
            raise UserError(
                f"--test {text}: the name {name} is that of another set; choose another name"
            )
        tests[name] = prefix
    return tests


def nth_test(number):
    """fairseq's name of test set ``number``, counted from 0."""
    return f"test{number or ''}"


def check_files(parts):
    """Raise :class:`UserError` where two of the parts, or both sides of one, are the same file."""
    seen = {}
    for subset, paths in parts.items():
        for path in paths:
            other, where = seen.setdefault(path.stat().st_ino, (path, subset))
            if other is not path and other.samefile(path):
                raise UserError(
                    f"{path} ({subset}) and {other} ({where}) are the same file: give each set its "
                    "own"
                )


def write_text(parts, languages, settings, folder, workers=1):
    """Write ``text/`` and, for tokenized corpora, ``references/`` below ``folder``.

    Args:
        parts: both paths of each subset, by its name, the test sets last.
        settings: ``tokenizer`` (``moses`` or ``none``), ``lowercase``, ``max_tokens`` (characters
            where one of the languages writes without spaces), ``max_ratio``,
            ``drop_test_duplicates``; ``merges`` where subwords are subword-nmt's.

    Returns:
        The beginning of the manifest.
    """
    moses = settings["tokenizer"] == "moses"
    tokenize = functools.partial(tokenized, workers=workers)
    case = lowercase if settings["lowercase"] else str
    limits = settings["max_tokens"], settings["max_ratio"], *measure_of(languages)
    tested = set(), set()  # the sentences of the test sets, by side
    duplicates = dict.fromkeys(("by source", "by target", "by both"), 0)
    with Text(folder / "text", languages, list(parts), tokenize if moses else None) as text:
        for subset in [*parts][::-1]:  # training text last, to be compared with the test sets
            pairs = text.read(subset, parts[subset], folded)
            for number, pair in enumerate(pairs, start=1):
                pair = [case(sentence) for sentence in pair]
                if subset == "train":
                    reason = reason_to_drop(*pair, *limits)
                    known = [sentence in side for sentence, side in zip(pair, tested)]
                    if reason is None and any(known):
                        duplicates["by source"] += known[0]
                        duplicates["by target"] += known[1]
                        duplicates["by both"] += all(known)
                        if settings["drop_test_duplicates"]:
                            reason = "a side stands in a test set"
                    if reason is not None:
                        text.dropped[reason] += 1
                        continue
                elif subset != "valid":
                    for sentence, side in zip(pair, tested):
                        side.add(sentence)
                if "merges" in settings:
                    for sentence, path in zip(pair, parts[subset]):
                        refuse_symbols(sentence, f"{path}, line {number}")
                text.write(subset, pair)
    if moses:
        targets = {subset: paths[1] for subset, paths in parts.items()}
        write_references(targets, languages[1], case, folder)
    return {
        "corpus": f"text files {', '.join(map(name_of, parts['train']))}, ...",
        "tokenizer": "moses" if moses else None,
        "tokenized by": tool() if moses else None,
        "lowercased": settings["lowercase"],
        "training pairs with a sentence of a test set": duplicates,
        **text.manifest(),
    }


def measure_of(languages):
    """How sentences are measured, and in which unit: tokens, or characters for want of spaces."""
    if any(map(writes_without_spaces, languages)):
        return characters_in, "characters"
    return tokens_in, "tokens"


def language(text):
    """Reader of a language code; fairseq parts the two of a pair by a hyphen."""
    if not _LANGUAGE.fullmatch(text):
        raise ValueError
    return text


def ratio(text):
    """Reader of a number from 1."""
    if not float(text) >= 1:
        raise ValueError
    return float(text)


def parser():
    made = parser_of("parallel-text", __doc__, "SOURCE-TARGET")
    code = argument(language, "a code of letters, digits and _, such as de or pt_br")
    count, flag = whole_number(1), {"action": "store_true", "default": None}  # None: not given
    add = made.add_argument
    for side in ("source", "target"):
        add(f"--{side}", type=code, required=True, metavar="CODE", help="what its files end in")
    add("--train", required=True, metavar="PREFIX", help="text to train on")
    add("--valid", required=True, metavar="PREFIX", help="text to validate on")
    several = "a test set; several are all translated, scored and tabled"
    add("--test", required=True, action="append", metavar="[NAME=]PREFIX", help=several)
    add("--pool-tests", **flag, help=POOL_HELP)
    cut = "cut words from punctuation (default: none, as SentencePiece needs)"
    add("--tokenizer", choices=("none", "moses"), help=cut)
    add("--lowercase", **flag, help="lowercase all text, references too")
    sizes = made.add_mutually_exclusive_group()
    pieces = f"SentencePiece with a joint vocabulary of N (default: {DEFAULTS['pieces']})"
    sizes.add_argument("--pieces", type=count, metavar="N", help=pieces)
    merges = "instead: subword-nmt's BPE with N joint merges"
    sizes.add_argument("--merges", type=count, metavar="N", help=merges)
    joined = "one for both languages, as --share-all-embeddings needs, or two (default: joined)"
    add("--dictionaries", choices=("joined", "separate"), help=joined)
    longest = (
        f"drop training pairs of which a side has more tokens (default: {DEFAULTS['max_tokens']}), "
        f"or characters where a language writes without spaces ({MAX_CHARACTERS})"
    )
    add("--max-tokens", type=count, metavar="N", help=longest)
    longer = f"and those of which one is R times longer (default: {DEFAULTS['max_ratio']:g})"
    add("--max-ratio", type=argument(ratio, "a number from 1"), metavar="R", help=longer)
    known = "and those of which a side is a sentence of a test set (always counted)"
    add("--drop-test-duplicates", **flag, help=known)
    add_workers(made)
    return made


def main():
    options = parser().parse_args()
    languages = options.source, options.target
    if options.source == options.target:
        raise UserError(f"--source and --target are both {options.source}: expected two languages")
    given = given_options(options, *DEFAULTS, "merges")
    settings = {**DEFAULTS, **given}
    if "max_tokens" not in given and measure_of(languages)[1] == "characters":
        settings["max_tokens"] = MAX_CHARACTERS
    kind, size_name = "sentencepiece", "pieces"
    if "merges" in given:
        kind, size_name = "subword-nmt", "merges"
        del settings["pieces"]
    tests = named_tests(options.test)
    subsets = {name: nth_test(number) for number, name in enumerate(tests)}
    prefixes = {"train": options.train, "valid": options.valid}
    prefixes.update({subsets[name]: prefix for name, prefix in tests.items()})
    parts = {subset: paths_of(prefix, languages) for subset, prefix in prefixes.items()}
    check_files(parts)
    files = {
        f"{subset}.{side}": checksum(path, "sha256")
        for subset, paths in parts.items()
        for side, path in zip(languages, paths)
    }
    given.update(files, tests=subsets)
    settings.update(files, tests=subsets)

    def text(folder):
        say("Reading, filtering and tokenizing.")
        found = write_text(parts, languages, settings, folder, options.workers)
        duplicates = found["training pairs with a sentence of a test set"]
        if any(duplicates.values()) and not settings["drop_test_duplicates"]:
            counts = ", ".join(f"{count:,} {side}" for side, count in duplicates.items())
            say(
                f"note: training pairs share sentences with test sets ({counts}); "
                "--drop-test-duplicates leaves them out"
            )
        pooled = settings["pool_tests"]
        return {**found, "tests": subsets, "all": pooled, "options": settings}

    prepare(
        out_of(options, "-".join(languages)),
        given,
        text,
        kind=kind,
        size=settings[size_name],
        joined=settings["dictionaries"] == "joined",
    )


if __name__ == "__main__":
    run(main)
