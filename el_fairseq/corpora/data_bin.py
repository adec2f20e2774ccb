"""A corpus from binary data that fairseq-preprocess made elsewhere, and files of references.

The corpus folder holds a link to the data, and the text of its test sets.
"""

import argparse
import logging
from pathlib import Path

from fairseq.data import Dictionary, data_utils

from ..common.cli import UserError, run
from ..common.text import lines_of
from .binarize import check_binary, languages_and_dictionaries
from .checksums import checksum
from .manifest import versions
from .parallel_text import named_tests, nth_test
from .prepare import fairseq_path, make_once, name_of
from .subwords import MODELS, Subwords, text_of

SYMBOLS = {"sentencepiece": "sentencepiece", "subword-nmt": "@@ ", "none": None}


def sentences(data, subset, pair, side, dictionary):
    """Binary sentences of one side of a subset.

    Raises:
        UserError: the data lacks the subset, or its files are damaged.
    """
    prefix = Path(data, f"{subset}.{pair[0]}-{pair[1]}.{pair[side]}")
    check_binary(prefix)
    return data_utils.load_indexed_dataset(str(prefix), dictionary)


def _dictionary(path):
    try:
        return Dictionary.load(path)
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"{path} is no dictionary of fairseq's: {error}") from None


def describe(data, references, subwords, model, folder):
    """Write a corpus's links and text into ``folder``; returns the manifest so far.

    Args:
        data: folder that fairseq-preprocess made.
        references: files of plain translations by the test set's name, in fairseq's order.
        subwords: ``sentencepiece``, ``subword-nmt`` or ``none``.
        model: path of the subword model, or ``None``.
    """
    pair, dictionaries = languages_and_dictionaries(data)
    loaded = [_dictionary(path) for path in dictionaries]
    for name in ("text", "references", "bpe"):
        (folder / name).mkdir()
    (folder / "bin").symlink_to(Path(data).resolve(), target_is_directory=True)
    tests, pairs = {}, {}
    for number, (name, path) in enumerate(references.items()):
        subset = nth_test(number)
        lines = lines_of(path)
        for side, dictionary in enumerate(loaded):
            binary = sentences(data, subset, pair, side, dictionary)
            if len(binary) != len(lines):
                raise UserError(
                    f"{path} holds {len(lines)} references, and {subset} of {data} {len(binary)} "
                    "sentences: give as many, in the same order"
                )
            with (folder / "text" / f"{subset}.{pair[side]}").open("w", encoding="utf-8") as file:
                for sentence in binary:
                    file.write(text_of(sentence, dictionary, SYMBOLS[subwords]) + "\n")
        with (folder / "references" / f"{subset}.{pair[1]}").open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        tests[name], pairs[subset] = subset, len(lines)
    kind = None if subwords == "none" else subwords
    if model is not None and kind is not None:
        Subwords(model)
        (folder / "bpe" / MODELS[kind]).write_bytes(Path(model).read_bytes())
    return {
        "corpus": f"binary data {name_of(Path(data).resolve())}",
        "source": pair[0],
        "target": pair[1],
        "subwords": kind,
        "tests": tests,
        "pairs": pairs,
    }


def main():
    parser = argparse.ArgumentParser(
        prog="bash data-prep/data-bin.sh", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--data-bin", type=fairseq_path, required=True, metavar="DIR")
    parser.add_argument("--test", required=True, action="append", metavar="[NAME=]REFERENCES")
    parser.add_argument("--pool-tests", action="store_true")
    parser.add_argument("--subwords", choices=SYMBOLS, default="none")
    parser.add_argument("--subword-model", type=Path, metavar="FILE")
    parser.add_argument("--tokenizer", choices=("none", "moses"), default="none")
    parser.add_argument("--lowercased", action="store_true")
    parser.add_argument("--out", type=fairseq_path, required=True, metavar="DIR")
    options = parser.parse_args()
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    references = {name: Path(path) for name, path in named_tests(options.test).items()}
    for path in references.values():
        if not path.is_file():
            raise UserError(f"there is no file {path}: --test names plain translations")
    settings = {
        "data-bin": str(options.data_bin),
        "references": {name: checksum(path, "sha256") for name, path in references.items()},
        "subwords": options.subwords,
        "tokenizer": options.tokenizer,
        "lowercased": options.lowercased,
        "pool-tests": options.pool_tests,
    }

    def make(folder):
        found = describe(
            options.data_bin, references, options.subwords, options.subword_model, folder
        )
        found["tokenizer"] = None if options.tokenizer == "none" else options.tokenizer
        found["lowercased"] = options.lowercased
        found["all"] = options.pool_tests
        return {**found, "options": settings, "versions": versions()}

    make_once(options.out, settings, make)


if __name__ == "__main__":
    run(main)
