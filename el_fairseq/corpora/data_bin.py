"""A corpus from binary data that fairseq-preprocess made elsewhere.

The corpus folder holds a link to the data, the text of its test sets, and references where a user
gives some.
"""

import itertools
import logging
import os
from pathlib import Path

from fairseq.data import Dictionary, data_utils

from ..common.cli import UserError, run
from ..common.paths import ROOT
from ..common.text import lines_of
from .binarize import check_binary, languages_and_dictionaries
from .checksums import checksum
from .manifest import versions
from .parallel_text import named_tests, nth_test
from .prepare import (
    POOL_HELP,
    fairseq_path,
    make_once,
    name_of,
    parser_of,
    say,
    warn_of_tokens,
)
from .subwords import MODELS, Subwords, text_of

# What --subwords undoes, and what shows each kind in text.
MARKS = {"sentencepiece": "\u2581", "subword-nmt": "@@"}
SYMBOLS = {"sentencepiece": "sentencepiece", "subword-nmt": "@@ ", "none": None}


def sentences(data, subset, pair, side, dictionary):
    """Binary sentences of one side of a subset.

    Raises:
        UserError: the data lacks the subset, or its files are damaged or hold no sentence.
    """
    prefixes = [Path(data, f"{subset}.{a}-{b}.{pair[side]}") for a, b in (pair, pair[::-1])]
    prefix = next((path for path in prefixes if Path(f"{path}.idx").is_file()), prefixes[0])
    check_binary(prefix)
    return data_utils.load_indexed_dataset(str(prefix), dictionary)


def test_sets(data, pair):
    """The test sets of a pair in binary data, as fairseq names them: ``test``, ``test1``, ..."""
    names = {"-".join(pair), "-".join(pair[::-1])}
    found = {
        path.name.split(".")[0]
        for path in Path(data).glob("test*.*.*.idx")
        if path.name.split(".")[1] in names
    }
    return list(itertools.takewhile(found.__contains__, map(nth_test, itertools.count())))


def _dictionary(path):
    try:
        return Dictionary.load(path)
    except (ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no dictionary of fairseq's: {reason}") from None


def describe(data, languages, references, subwords, model, tokenizer, folder):
    """Write a corpus's links and text into ``folder``; returns the manifest so far.

    Args:
        data: folder that fairseq-preprocess made.
        languages: source and target; ``None`` for both where the data has one pair.
        references: files of plain translations by the test set's name, in fairseq's order;
            ``None`` for the translations in the data.
        subwords: ``sentencepiece``, ``subword-nmt`` or ``none``.
        model: path of the subword model, or ``None``.
        tokenizer: ``moses``, or ``None``.
    """
    pair, dictionaries = languages_and_dictionaries(data, *languages)
    loaded = [_dictionary(path) for path in dictionaries]
    for name in ("text", "references", "bpe"):
        (folder / name).mkdir()
    (folder / "bin").symlink_to(link_to(Path(data).resolve(), folder), target_is_directory=True)
    sets = references or dict.fromkeys(test_sets(data, pair) or ["test"])
    tests, pairs = {}, {}
    for number, (name, path) in enumerate(sets.items()):
        subset = nth_test(number)
        for side, dictionary in enumerate(loaded):
            binary = sentences(data, subset, pair, side, dictionary)
            lines = [text_of(sentence, dictionary, SYMBOLS[subwords]) for sentence in binary]
            _check_whole(lines, f"{subset}.{pair[side]} of {data}", subwords)
            _write(lines, folder / "text" / f"{subset}.{pair[side]}")
        if path is None:
            if tokenizer is None:
                warn_of_tokens(lines, f"{subset}.{pair[1]} of {data}")
            unknown = sum("\ufffd" in line for line in lines)
            if unknown:
                say(
                    f"warning: {unknown} of {len(lines)} translations of {subset} hold words that "
                    "the dictionary lacks, and are scored against with U+FFFD in their place: "
                    "give plain references by --test"
                )
        else:
            given = lines_of(path)
            if len(given) != len(lines):
                raise UserError(
                    f"{path} holds {len(given)} references, and {subset} of {data} {len(lines)} "
                    "sentences: give as many, in the same order"
                )
            warn_of_tokens(given, path)
            _write(given, folder / "references" / f"{subset}.{pair[1]}")
        tests[name], pairs[subset] = subset, len(lines)
    kind = None if subwords == "none" else subwords
    if model is not None and kind is not None:
        Subwords(model)
        (folder / "bpe" / MODELS[kind]).write_bytes(Path(model).read_bytes())
    return {
        "corpus": f"binary data {name_of(Path(data).resolve())}",
        "source": pair[0],
        "target": pair[1],
        "tokenizer": tokenizer,
        "subwords": kind,
        "tests": tests,
        "pairs": pairs,
    }


def _check_whole(lines, name, subwords):
    """Raise :class:`UserError` where text is still in subwords: scores would be of those."""
    for kind, mark in MARKS.items():
        if sum(mark in line for line in lines) > len(lines) / 2:
            raise UserError(
                f"{name} holds '{mark}' of {kind}, and --subwords is {subwords}: say "
                f"--subwords {kind}"
            )


def link_to(data, folder):
    """What a link in ``folder`` to ``data`` says: relative where both move with the repository."""
    both_below = all(ROOT.resolve() in path.parents for path in (data, folder))
    return os.path.relpath(data, folder) if both_below else data


def content_of(data, pair):
    """Checksum of what a pair's binary data is: its dictionaries, and the sentences' lengths."""
    names = "-".join(pair), "-".join(pair[::-1])
    indices = [path for name in names for path in Path(data).glob(f"*.{name}.*.idx")]
    dictionaries = [Path(data, f"dict.{language}.txt") for language in pair]
    paths = sorted(indices) + dictionaries
    return " ".join(checksum(path, "sha256").partition(":")[2][:8] for path in paths)


def _write(lines, path):
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def main():
    parser = parser_of("data-bin", __doc__, None)
    add, moses = parser.add_argument, ("none", "moses")
    data = "the binary data, with its dictionaries"
    add("--data-bin", type=fairseq_path, required=True, metavar="DIR", help=data)
    add("--source", metavar="CODE", help="source language, where the data has several pairs")
    add("--target", metavar="CODE", help="target language, where the data has several pairs")
    plain = (
        "plain translations of its test set, a line each, neither tokenized nor in subwords; the "
        "second --test is fairseq's test1, and so on (default: the data's own, both undone)"
    )
    add("--test", action="append", default=[], metavar="[NAME=]REFERENCES", help=plain)
    add("--pool-tests", action="store_true", help=POOL_HELP)
    add("--subwords", choices=SYMBOLS, default="none", help="what it was cut into (default: none)")
    model = "their model: for character noise and other texts in reports"
    add("--subword-model", type=Path, metavar="FILE", help=model)
    before = "how it was tokenized before (default: none)"
    add("--tokenizer", choices=moses, default="none", help=before)
    add("--lowercased", action="store_true", help="it was lowercased, and the references are, too")
    options = parser.parse_args()
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    references = {name: Path(path) for name, path in named_tests(options.test).items()}
    for path in references.values():
        if not path.is_file():
            raise UserError(f"there is no file {path}: --test names plain translations")
    languages = options.source, options.target
    pair = languages_and_dictionaries(options.data_bin, *languages)[0]
    settings = {
        "languages": pair,
        "content": content_of(options.data_bin, pair),
        "references": {name: checksum(path, "sha256") for name, path in references.items()},
        "subwords": options.subwords,
        "tokenizer": options.tokenizer,
        "lowercased": options.lowercased,
        "pool-tests": options.pool_tests,
    }

    def make(folder):
        found = describe(
            options.data_bin,
            pair,
            references,
            options.subwords,
            options.subword_model,
            None if options.tokenizer == "none" else options.tokenizer,
            folder,
        )
        found["lowercased"] = options.lowercased
        found["all"] = options.pool_tests
        return {**found, "options": settings, "versions": versions()}

    make_once(options.out, settings, make)


if __name__ == "__main__":
    run(main)
