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
from . import pairs
from .binarize import check_binary, languages_and_dictionaries
from .prepare import (
    POOL_HELP,
    make_once,
    named_tests,
    nth_test,
    parser_of,
    say,
    versions,
    warn_of_tokens,
)
from .sources import checksum
from .subwords import MODELS, REMOVE_BPE, Subwords, text_of

# What shows each kind of subwords in text.
MARKS = {"sentencepiece": "\u2581", "subword-nmt": "@@"}


def prefix_of(data, subset, pair, language):
    """Path of binary data without its ending; fairseq reads a pair in both directions."""
    forth, back = (data / f"{subset}.{a}-{b}.{language}" for a, b in (pair, pair[::-1]))
    return back if Path(f"{back}.idx").is_file() else forth


def test_sets(data, pair):
    """The test sets of a pair in binary data, as fairseq names them: ``test``, ``test1``, ..."""
    sets = map(nth_test, itertools.count())
    there = itertools.takewhile(
        lambda subset: Path(f"{prefix_of(data, subset, pair, pair[1])}.idx").is_file(), sets
    )
    return list(there) or ["test"]


def lines_of(data, subset, pair, side, dictionary, subwords):
    """Lines of text of one side of a subset of binary data, subwords undone.

    Raises:
        UserError: the data lacks the subset or is damaged, or its text is still in subwords.
    """
    prefix = prefix_of(data, subset, pair, pair[side])
    check_binary(prefix)
    binary = data_utils.load_indexed_dataset(str(prefix), dictionary)
    lines = [text_of(sentence, dictionary, REMOVE_BPE.get(subwords)) for sentence in binary]
    for kind, mark in MARKS.items():
        if sum(mark in line for line in lines) > len(lines) / 2:
            raise UserError(
                f"{prefix} holds '{mark}' of {kind}, and --subwords is {subwords}: say "
                f"--subwords {kind}"
            )
    return lines


def check_references(lines, path, name, tokenizer):
    """Warn where a test set of ``lines`` is scored against what is not plain text.

    ``path`` is the file of references; ``None``: they are the lines themselves.

    Raises:
        UserError: the file has more lines, or fewer.
    """
    scored = lines if path is None else list(pairs.folded(path))
    if len(scored) != len(lines):
        raise UserError(
            f"{path} holds {len(scored)} references, and {name} {len(lines)} sentences: give as "
            "many, in the same order"
        )
    if path is not None or tokenizer == "none":
        warn_of_tokens(scored, path or name)
    unknown = sum("\ufffd" in line for line in scored)
    if unknown:
        say(
            f"warning: {unknown} of {len(lines)} lines of {path or name} hold U+FFFD in place of "
            "words that the dictionary lacks, and are scored so: give plain references by --test"
        )


def write_corpus(options, data, pair, dictionaries, tests, references, folder):
    """Write a corpus's link and text into ``folder``; returns the manifest so far.

    ``tests`` has the subset of each test set by name, ``references`` files of plain translations by
    subset; without them, they are those of the data.
    """
    (folder / "bin").symlink_to(os.path.relpath(data, folder), target_is_directory=True)
    dictionaries = list(map(Dictionary.load, dictionaries))
    placed = []
    for subset in tests.values():
        sides = [
            lines_of(data, subset, pair, side, dictionary, options.subwords)
            for side, dictionary in enumerate(dictionaries)
        ]
        placed += [(subset, both) for both in zip(*sides)]
        name = f"{subset}.{pair[1]} of {data}"
        check_references(sides[1], references.get(subset), name, options.tokenizer)
    pairs.write_references(folder, pair[1], references)
    kind = None if options.subwords == "none" else options.subwords
    if options.subword_model and kind:
        Subwords(options.subword_model)  # refuses what is none
        (folder / "bpe").mkdir()
        (folder / "bpe" / MODELS[kind]).write_bytes(options.subword_model.read_bytes())
    return {
        "corpus": f"binary data {data.name}",
        "tokenizer": None if options.tokenizer == "none" else options.tokenizer,
        "lowercased": options.lowercased,
        "subwords": kind,
        "tests": tests,
        "all": options.pool_tests,
        **pairs.write(folder, pair, tests.values(), placed),
    }


def content_of(data, pair, dictionaries):
    """Checksum of what a pair's binary data is: its dictionaries, and the sentences' lengths."""
    names = "-".join(pair), "-".join(pair[::-1])
    paths = sorted(path for name in names for path in data.glob(f"*.{name}.*.idx"))
    sums = [checksum(path, "sha256") for path in (*paths, *dictionaries)]
    return " ".join(one.partition(":")[2][:8] for one in sums)


def main():
    parser = parser_of("data-bin", __doc__)
    add, kinds = parser.add_argument, ("none", *MARKS)
    data = "the binary data, with its dictionaries"
    add("--data-bin", type=Path, required=True, metavar="DIR", help=data)
    add("--source", metavar="CODE", help="source language, where the data has several pairs")
    add("--target", metavar="CODE", help="target language, where the data has several pairs")
    plain = (
        "plain translations of its test set, a line each, neither tokenized nor in subwords; the "
        "second --test is fairseq's test1, and so on (default: the data's own, both undone)"
    )
    add("--test", action="append", default=[], metavar="[NAME=]REFERENCES", help=plain)
    add("--pool-tests", action="store_true", help=POOL_HELP)
    add("--subwords", choices=kinds, default="none", help="what it was cut into (default: none)")
    theirs = "their model: for character noise and other texts in reports"
    add("--subword-model", type=Path, metavar="FILE", help=theirs)
    before = "how it was tokenized before (default: none)"
    add("--tokenizer", choices=("none", "moses"), default="none", help=before)
    add("--lowercased", action="store_true", help="it was lowercased, and the references are, too")
    options = parser.parse_args()
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    data, model = options.data_bin.resolve(), options.subword_model
    tests, references = named_tests(options.test)
    pair, dictionaries = languages_and_dictionaries(data, options.source, options.target)
    settings = {
        "languages": list(pair),
        "content": content_of(data, pair, dictionaries),
        "references": {
            name: checksum(references[subset], "sha256") for name, subset in tests.items()
        },
        "subwords": options.subwords,
        "subword-model": model and checksum(model, "sha256"),
        "tokenizer": options.tokenizer,
        "lowercased": options.lowercased,
        "pool-tests": options.pool_tests,
    }

    def make(folder):
        sets = tests or {subset: subset for subset in test_sets(data, pair)}
        made = write_corpus(options, data, pair, dictionaries, sets, references, folder)
        return {**made, "options": settings, "versions": versions()}

    make_once(options.out, settings, make)


if __name__ == "__main__":
    run(main)
