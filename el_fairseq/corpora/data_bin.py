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
from .prepare import POOL_HELP, make_once, named_tests, parser_of, say, warn_of_tokens
from .sources import checksum
from .subwords import MODELS, REMOVE_BPE, Subwords, text_of

# What shows each kind of subwords in text.
MARKS = {"sentencepiece": "\u2581", "subword-nmt": "@@"}


def test_sets(data, pair):
    """The test sets of a pair, such as ``de-en``, in binary data: ``test``, ``test1``, ..."""
    names = (f"test{number or ''}" for number in itertools.count())
    return list(itertools.takewhile(lambda name: any(data.glob(f"{name}.{pair}.*.idx")), names))


def text_in(prefix, dictionary, subwords):
    """Lines of text in binary data, subwords undone.

    Raises:
        UserError: the data lacks the subset or is damaged, or its text is still in subwords.
    """
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


def check_references(lines, count, name):
    """Refuse references that are not ``count`` lines; warn of words that are unknown in them."""
    if len(lines) != count:
        raise UserError(
            f"{name} holds {len(lines)} references, and its test set {count} sentences: give as "
            "many, in the same order"
        )
    unknown = sum("\ufffd" in line for line in lines)
    if unknown:
        say(
            f"warning: {unknown} of {count} lines of {name} hold U+FFFD in place of words that the "
            "dictionary lacks, and are scored so: give plain references by --test"
        )


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
        "second --test is fairseq's test1, and so on (default: the data's own, detokenized, "
        "subwords joined)"
    )
    add("--test", action="append", default=[], metavar="[NAME=]REFERENCES", help=plain)
    add("--pool-tests", action="store_true", help=POOL_HELP)
    add("--subwords", choices=kinds, default="none", help="kind of subwords (default: none)")
    theirs = "their model: for character noise and other texts in reports"
    add("--subword-model", type=Path, metavar="FILE", help=theirs)
    before = "how it was tokenized before (default: none)"
    add("--tokenizer", choices=("none", "moses"), default="none", help=before)
    add("--lowercased", action="store_true", help="it was lowercased, and the references are, too")
    options = parser.parse_args()
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    data, model = options.data_bin.resolve(), options.subword_model
    kind, tokenizer = (
        None if given == "none" else given for given in (options.subwords, options.tokenizer)
    )
    tests, references = named_tests(options.test)
    pair, files, dictionaries = languages_and_dictionaries(data, options.source, options.target)
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
        (folder / "bin").symlink_to(os.path.relpath(data, folder), target_is_directory=True)
        names = test_sets(data, files) or ["test"]
        sets, placed = tests or dict(zip(names, names)), []
        loaded = [Dictionary.load(path) for path in dictionaries]
        for subset in sets.values():
            sides = [
                text_in(data / f"{subset}.{files}.{language}", dictionary, options.subwords)
                for language, dictionary in zip(pair, loaded)
            ]
            placed += [(subset, both) for both in zip(*sides)]
            given = references.get(subset)
            scored = list(pairs.folded(given)) if given else sides[1]
            name = given or f"{subset}.{pair[1]} of {data}"
            check_references(scored, len(sides[1]), name)
            if given or not tokenizer:
                warn_of_tokens(scored, name)
        pairs.write_references(folder, pair[1], references)
        if model and kind:
            Subwords(model)  # refuses what is none
            (folder / "bpe").mkdir()
            (folder / "bpe" / MODELS[kind]).write_bytes(model.read_bytes())
        return {
            "corpus": f"binary data {data.name}",
            "tokenizer": tokenizer,
            "lowercased": options.lowercased,
            "subwords": kind,
            "tests": sets,
            "all": options.pool_tests,
            **pairs.write(folder, pair, sets.values(), placed),
        }

    make_once(options.out, settings, make)


if __name__ == "__main__":
    run(main)
