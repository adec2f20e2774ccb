"""Subsets of binarized data, as fairseq's datasets."""

from pathlib import Path

import numpy as np
from fairseq.data import ConcatDataset, Dictionary, LanguagePairDataset

from ..common.cli import UserError
from ..corpora.binarize import check_binary


def options_of(task):
    """Options of a fairseq task, in either form in which checkpoints store them."""
    return task.args if task.cfg is None else task.cfg


def load_subset(task, data, subset):
    """A fairseq dataset: ``subset`` (test, valid, ...) of the binarized folder ``data``.

    Several subsets of a translation corpus, such as ``test,test1``, become one dataset.

    Raises:
        UserError: the subset is missing, empty or damaged, has no target side, or the folder's
            dictionaries are not the task's.
    """
    _check_dictionaries(task, data)
    datasets = [_load_one_subset(task, data, one) for one in subset.split(",")]
    first = datasets[0]
    if len(datasets) == 1:
        return first
    if not isinstance(first, LanguagePairDataset):
        raise UserError(f"--subset is {subset}: for a language model, name one subset")
    sides = [ConcatDataset([getattr(one, side) for one in datasets]) for side in ("src", "tgt")]
    return translation_dataset(task, *sides, first)


def translation_dataset(task, sources, targets, like):
    """Translation dataset of token tensors, padded like the dataset ``like``."""
    sizes = [np.array([len(one) for one in side]) for side in (sources, targets)]
    return LanguagePairDataset(
        *(sources, sizes[0], task.source_dictionary),
        *(targets, sizes[1], task.target_dictionary),
        left_pad_source=like.left_pad_source,
        left_pad_target=like.left_pad_target,
        shuffle=False,
    )


def _load_one_subset(task, data, subset):
    for index in Path(data).glob(f"{subset}.*idx"):
        check_binary(index.with_suffix(""))
    options = options_of(task)
    before, options.data = options.data, str(data)
    try:
        task.load_dataset(subset, combine=False, epoch=1)
    except FileNotFoundError:
        there = sorted({path.name.split(".")[0] for path in Path(data).glob("*.idx")})
        raise UserError(
            f"no subset {subset} in {data}; it holds: {', '.join(there) or 'none'}"
        ) from None
    finally:
        options.data = before
    dataset = task.dataset(subset)
    if isinstance(dataset, LanguagePairDataset) and dataset.tgt is None:
        raise UserError(f"subset {subset} of {data} has no target side: binarize it with one")
    return dataset


def _check_dictionaries(task, data):
    known = [d.symbols for d in (task.source_dictionary, task.target_dictionary) if d is not None]
    sides = [getattr(options_of(task), f"{side}_lang", None) for side in ("source", "target")]
    paths = sorted(Path(data).glob("dict*.txt"))
    if not paths:
        raise UserError(
            f"{data} holds no dictionary (dict.*.txt); expected a folder that fairseq-preprocess "
            "made"
        )
    for path in paths:
        # The folder may also hold other language pairs.
        another = all(sides) and path.name not in [f"dict.{side}.txt" for side in sides]
        if not another and Dictionary.load(str(path)).symbols not in known:
            raise UserError(
                f"{path} is not a dictionary of the models; binarize the text with those "
                "(python -m el_fairseq.corpora.binarize --help)"
            )
