"""Binarize text with the dictionaries and subwords of models at hand.

For text that the models were not trained on: another domain, another language, another order of
words (``python -m el_fairseq.analysis --ood NAME=FOLDER:SUBSET``).
"""

import argparse
import logging
import random
import tempfile
from pathlib import Path

from fairseq import options
from fairseq.data import indexed_dataset

from ..common.cli import UserError, argument, run
from ..common.files import making
from ..common.text import lines_of
from .subwords import Subwords, refuse_symbols


def preprocess(*arguments):
    """Run fairseq-preprocess in this process; what it says is in the folder's preprocess.log.

    In one process: its own parallel mode waits for ever for a worker that was killed.
    """
    from fairseq_cli import preprocess as fairseq_preprocess  # which sets up all logging

    logger = logging.getLogger("fairseq_cli.preprocess")
    before, logger.propagate = list(logger.handlers), False
    logger.setLevel(logging.INFO)
    try:
        fairseq_preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    finally:
        for handler in set(logger.handlers) - set(before):
            logger.removeHandler(handler)
            handler.close()


def binarize(
    like, subwords, source, target, out, subset="test", shuffle_seed=None, languages=(None, None)
):
    """Binarize files of text into the folder ``out``, which must not exist.

    Args:
        like: a folder that fairseq-preprocess made, whose languages and dictionaries to use.
        subwords: a :class:`Subwords` model.
        source: text file, one sentence a line, tokenized as the training text was.
        target: its translations, or None.
        subset: name for the data in ``out``.
        shuffle_seed: put the words of each source sentence in random order.
        languages: source and target, which must be named where ``like`` has several pairs.
    """
    pair, dictionaries = languages_and_dictionaries(like, *languages)
    if Path(out).exists():
        raise UserError(f"{out} exists already; remove it, or choose another --out")
    with tempfile.TemporaryDirectory() as temporary:
        prefix = Path(temporary) / "text"
        lines = _sentences(source)
        if shuffle_seed is not None:
            lines = shuffled(lines, shuffle_seed)
        _write_pieces(lines, subwords, f"{prefix}.{pair[0]}", source)
        if target is not None:
            translations = _sentences(target)
            if len(translations) != len(lines):
                raise UserError(
                    f"{source} has {len(lines)} lines and {target} {len(translations)}; "
                    "expected as many translations as sentences"
                )
            _write_pieces(translations, subwords, f"{prefix}.{pair[1]}", target)
        with making(out) as folder:
            arguments = [
                *("--source-lang", pair[0], "--target-lang", pair[1]),
                *("--srcdict", dictionaries[0], "--tgtdict", dictionaries[1]),
                *("--testpref", str(prefix), "--destdir", str(folder)),
                *(["--only-source"] if target is None else []),
            ]
            preprocess(*arguments)
            for path in [*folder.glob("test.*")]:
                path.rename(folder / path.name.replace("test", subset, 1))


def check_binary(prefix):
    """Raise :class:`UserError` where ``PREFIX.bin`` is not as long as ``PREFIX.idx`` says.

    That is, of the format that fairseq writes unless told otherwise.
    """
    index, data = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    for path in (index, data):
        if not path.is_file():
            raise UserError(f"there is no {path}: binarize that set with fairseq-preprocess")
    advice = "binarize that set again"
    try:
        if indexed_dataset.infer_dataset_impl(str(prefix)) not in (None, "mmap"):
            return
        found = indexed_dataset.MMapIndexedDataset.Index(str(index))
        wanted = int(found._sizes.sum(dtype="int64")) * found.dtype().itemsize
    except Exception as error:  # an index that is cut ends in various errors
        raise UserError(f"{index} is cut off or damaged ({error!r}): {advice}") from None
    if not wanted:
        raise UserError(f"{index} holds no sentences: {advice}, of text that is not empty")
    if data.stat().st_size != wanted:
        raise UserError(
            f"{data} holds {data.stat().st_size:,} bytes, expected {wanted:,}: it is cut off or "
            f"damaged; {advice}"
        )


def shuffled(lines, seed):
    """The lines with the words of each in random order, the same for the same seed."""
    order = random.Random(seed)
    return [" ".join(order.sample(words, len(words))) for words in map(str.split, lines)]


def languages_and_dictionaries(folder, source=None, target=None):
    """Languages (source, target) of a folder of binary data, and paths of their dictionaries.

    Both are those that are named, and may be left out where the folder has one pair alone.

    Raises:
        UserError: there is no such pair, or there are several to choose from.
    """
    names = {path.name.split(".")[-3] for path in Path(folder).glob("*.*-*.*.idx")}
    pairs = [name.split("-") for name in sorted(names) if _dictionaries(folder, name.split("-"))]
    if not pairs:
        raise UserError(
            f"{folder} holds no binarized pair of languages; expected a folder that "
            "fairseq-preprocess made, with its dictionaries"
        )
    # fairseq reads a pair in both directions.
    turned = [pair[::-1] for pair in pairs if pair[::-1] not in pairs]
    asked = pairs + (turned if source and target else [])
    fitting = [pair for pair in asked if source in (None, pair[0]) and target in (None, pair[1])]
    if len(fitting) != 1:
        names = ", ".join(map("-".join, pairs))
        wanted = f"--source {source or '?'} --target {target or '?'}"
        raise UserError(
            f"{folder} has {'the pairs' if len(pairs) > 1 else 'the pair'} {names}, asked for is "
            f"{wanted}: name one pair by --source and --target"
        )
    return fitting[0], _dictionaries(folder, fitting[0])


def _dictionaries(folder, pair):
    paths = [Path(folder) / f"dict.{language}.txt" for language in pair]
    return [str(path) for path in paths] if all(path.is_file() for path in paths) else None


def _sentences(path):
    lines = lines_of(path)
    if not lines:
        raise UserError(f"{path} is empty; expected one sentence a line")
    return lines


def _write_pieces(lines, subwords, path, name):
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(lines, start=1):
            pieces = subwords.pieces(line)
            refuse_symbols(pieces, f"{name}, line {number}")
            file.write(f"{pieces}\n")


def _pair(text):
    source, target = text.split("-")
    return source, target


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.corpora.binarize", description=__doc__
    )
    parser.add_argument(
        "--like", required=True, metavar="FOLDER", help="binarized data that the models know"
    )
    parser.add_argument(
        "--subwords",
        required=True,
        metavar="FILE",
        help="SentencePiece model (FILE ends in .model) or BPE codes of the training data",
    )
    parser.add_argument(
        "--languages",
        type=argument(_pair, "SOURCE-TARGET, such as de-en"),
        default=(None, None),
        metavar="SOURCE-TARGET",
        help="those of the text, where FOLDER has several pairs",
    )
    parser.add_argument("--source", required=True, metavar="FILE", help="text, a sentence a line")
    parser.add_argument("--target", metavar="FILE", help="its translations, where there are any")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument("--subset", default="test", help="name of the data in it (%(default)s)")
    parser.add_argument(
        "--shuffle-words",
        type=int,
        metavar="SEED",
        help="put the words of each source sentence in random order",
    )
    arguments = parser.parse_args()
    binarize(
        arguments.like,
        Subwords(arguments.subwords),
        arguments.source,
        arguments.target,
        arguments.out,
        arguments.subset,
        arguments.shuffle_words,
        arguments.languages,
    )
    print(f"binarized into {arguments.out}: --ood NAME={arguments.out}:{arguments.subset}")


if __name__ == "__main__":
    run(main)
