"""Binarize text with the dictionaries and subwords of existing models.

For text that the models were not trained on: another domain, another language, another order of
words (``python -m el_fairseq.analysis --ood NAME=FOLDER:SUBSET``).
"""

import logging
import random
import tempfile
from pathlib import Path

from fairseq import options
from fairseq.data import indexed_dataset

from ..common.cli import UserError, command_line, run
from ..common.files import lines_of, making
from .subwords import Subwords, encode


def preprocess(*arguments):
    """Run fairseq-preprocess in this process; what it says is in the folder's preprocess.log.

    In one process: its own parallel mode hangs if a worker is killed.
    """
    from fairseq_cli import preprocess as fairseq_preprocess  # which sets up all logging

    logger = logging.getLogger("fairseq_cli.preprocess")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        fairseq_preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    finally:
        for handler in logger.handlers:  # the file
            handler.close()
        logger.handlers.clear()


def binarize(like, subwords, texts, out, languages=(None, None)):
    """Binarize text as the subset ``test`` of the folder ``out``, which must not exist.

    Args:
        like: a folder that fairseq-preprocess made, whose languages and dictionaries to use.
        subwords: a :class:`Subwords` model.
        texts: (name, sentences) of source and target, tokenized as the training text was.
        languages: source and target, needed where ``like`` has several pairs.
    """
    pair, _, dictionaries = languages_and_dictionaries(like, *languages)
    counts = [len(lines) for _, lines in texts]
    if 0 in counts or len(set(counts)) > 1:
        told = " and ".join(f"{name} has {count} lines" for (name, _), count in zip(texts, counts))
        raise UserError(f"{told}; expected a sentence a line, and as many translations")
    with tempfile.TemporaryDirectory() as temporary, making(out) as folder:
        for language, (name, lines) in zip(pair, texts):
            encode(subwords, lines, Path(temporary, f"test.{language}"), name)
        preprocess(
            *("--source-lang", pair[0], "--target-lang", pair[1]),
            *("--srcdict", dictionaries[0], "--tgtdict", dictionaries[1]),
            *("--testpref", f"{temporary}/test", "--destdir", str(folder)),
        )


def check_binary(prefix):
    """Raise :class:`UserError` where ``PREFIX.bin`` is not as long as ``PREFIX.idx`` says.

    Of fairseq's formats, that of ``--dataset-impl mmap``, its default, is checked.
    """
    try:
        length = Path(f"{prefix}.bin").stat().st_size
        if indexed_dataset.infer_dataset_impl(str(prefix)) not in (None, "mmap"):
            return
        index = indexed_dataset.MMapIndexedDataset.Index(f"{prefix}.idx")
        expected = int(index.sizes.sum(dtype="int64")) * index.dtype().itemsize
        if length != expected or not expected:
            raise ValueError(f"{length:,} bytes of sentences, expected {expected:,}")
    except Exception as error:  # an index that is cut ends in various errors
        raise UserError(
            f"{prefix}.idx and .bin are empty, cut off or damaged ({error}): binarize that set "
            "with fairseq-preprocess again"
        ) from None


def shuffled(lines, seed):
    """The lines with the words of each in random order, the same for the same seed."""
    order = random.Random(seed)
    return [" ".join(order.sample(words, len(words))) for words in map(str.split, lines)]


def languages_and_dictionaries(folder, source=None, target=None):
    """Of a folder of binary data: languages (source, target), the pair as its files are called, and
    paths of the dictionaries.

    Both languages may be left out where the folder has one pair alone.

    Raises:
        UserError: there is no such pair, or there are several to choose from.
    """
    names = {path.name.split(".")[-3] for path in Path(folder).glob("*.*-*.*.idx")}
    pairs = [tuple(name.split("-")) for name in names]
    if (target, source) in pairs:  # fairseq reads a pair in both directions
        pairs.append((source, target))
    fitting = {pair for pair in pairs if source in (None, pair[0]) and target in (None, pair[1])}
    if len(fitting) != 1:
        there = f"the pairs {', '.join(sorted(names))}" if names else "no binarized pair"
        raise UserError(
            f"{folder} has {there}, expected the pair {source or '?'}-{target or '?'}: "
            "name one pair of a folder that fairseq-preprocess made"
        )
    [pair] = fitting
    name = "-".join(pair) if "-".join(pair) in names else "-".join(pair[::-1])
    return pair, name, [str(Path(folder, f"dict.{language}.txt")) for language in pair]


def main():
    parser = command_line("python -m el_fairseq.corpora.binarize", __doc__)
    add = parser.add_argument
    add("--like", required=True, metavar="FOLDER", help="binarized data that the models know")
    model = "SentencePiece model (FILE ends in .model) or BPE codes of the training data"
    add("--subwords", type=Subwords, required=True, metavar="FILE", help=model)
    several, pair = "those of the text, where FOLDER has several pairs", ("SOURCE", "TARGET")
    add("--languages", nargs=2, default=(None, None), metavar=pair, help=several)
    add("--source", required=True, metavar="FILE", help="text, a sentence a line")
    add("--target", required=True, metavar="FILE", help="its translations")
    add("--out", required=True, metavar="FOLDER", help="folder to make")
    shuffle = "put the words of each source sentence in random order"
    add("--shuffle-words", type=int, metavar="SEED", help=shuffle)
    options = parser.parse_args()
    texts = [(path, list(lines_of(path))) for path in (options.source, options.target)]
    if options.shuffle_words is not None:
        texts[0] = options.source, shuffled(texts[0][1], options.shuffle_words)
    binarize(options.like, options.subwords, texts, options.out, options.languages)
    print(f"binarized into {options.out}: --ood NAME={options.out}:test")


if __name__ == "__main__":
    run(main)
