"""fairseq's models, from checkpoints, single or in an ensemble, and their binarized data."""

import argparse
import functools
import math
from pathlib import Path

import numpy as np
import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import ConcatDataset, Dictionary, LanguagePairDataset, data_utils
from tqdm import tqdm

from ..common.cli import UserError
from ..corpora.binarize import check_binary
from ..fairseq_compat import predicts_by_softmax
from ..safe_load import load
from .tokens import token_columns


class Model:
    """One or several checkpoints under one name, as one function that gives logits.

    A single network gives its own logits, unless it overrides ``get_normalized_probs`` (adaptive
    softmax, copying, nearest neighbours): then its log-probabilities serve as logits. An ensemble
    averages probabilities, as in fairseq; its logits are the logarithms of the mean. ``logits_are``
    says in words which of the three applies. For log-probabilities the free energy is 0 and the
    energy is ``-log p``.

    Attributes:
        task: fairseq's, with the dictionaries.
        positions: the longest sentence that all compared models accept, in fairseq's form.
        max_tokens: maximum number of tokens in a batch.
        padding: the class index of positions without a token.
    """

    def __init__(self, name, paths, networks, task, positions, max_tokens):
        self.name, self.paths, self.networks = name, paths, networks
        self.task, self.positions, self.max_tokens = task, positions, max_tokens
        self.padding = task.target_dictionary.pad()

    @property
    def logits_are(self):
        if len(self.networks) > 1:
            return "logarithms of the mean probability of the ensemble"
        if not predicts_by_softmax(self.networks[0]):
            return "log-probabilities: the model computes them in its own way"
        return "the network's own"

    @property
    def parameters(self):
        """Number of parameters, of all checkpoints together."""
        return sum(one.numel() for network in self.networks for one in network.parameters())

    def logits(self, sample):
        """Teacher-forced logits (B, T, V) of a batch as fairseq's datasets collate it."""
        networks, inputs = self.networks, sample["net_input"]
        if len(networks) == 1 and predicts_by_softmax(networks[0]):
            return networks[0](**inputs)[0]
        log_probs = (one.get_normalized_probs(one(**inputs), log_probs=True) for one in networks)
        return functools.reduce(torch.logaddexp, log_probs) - math.log(len(networks))

    def target(self, sample):
        """Target tokens (B, T) of a batch."""
        return self.networks[0].get_targets(sample, None)

    def batches(self, dataset, label):
        """Batches of a dataset, with a progress bar.

        It leaves out only sentences that are too long for one of the compared models.
        """
        with data_utils.numpy_seed(1):
            ordered = dataset.ordered_indices()
        ordered, _ = dataset.filter_indices_by_size(ordered, self.positions)
        if len(ordered) == 0:
            raise UserError(f"{label}: every sentence is too long for the models")
        try:
            groups = dataset.batch_by_size(
                ordered, max_tokens=self.max_tokens, required_batch_size_multiple=1
            )
        except AssertionError:
            raise UserError(
                f"--max-tokens is {self.max_tokens}, and the longest sentence has more; raise it"
            ) from None
        on_gpu = next(self.networks[0].parameters()).is_cuda
        label = f"{self.name}, {label}"
        for group in tqdm(groups, desc=label, unit="batch", leave=False, disable=None):
            sample = dataset.collater([dataset[int(index)] for index in group])
            yield utils.move_to_cuda(sample) if on_gpu else sample

    def token_columns(self, dataset, label, temperature=1):
        """:func:`~.tokens.token_columns` of a dataset, sorted by sentence and position, logits
        divided by the temperature."""
        batches = []
        for sample in self.batches(dataset, label):
            tokens = self.target(sample), sample["id"], self.padding
            batches.append(token_columns(self.logits(sample).div_(temperature), *tokens))
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        order = np.lexsort((joined["position"], joined["sentence"]))
        return {name: column[order] for name, column in joined.items()}


def load_models(paths_by_name, data, user_dir=None, device="cpu", max_tokens=4096):
    """Load checkpoints.

    Args:
        paths_by_name: dict of a model's name to a list of checkpoint files.
        data: folder binarized by fairseq-preprocess, whose dictionaries the models must fit.
        user_dir: fairseq's ``--user-dir``, for architectures or tasks outside fairseq.
        max_tokens: maximum number of tokens in a batch.

    Returns:
        A list of :class:`Model` in float32, in evaluation mode and without gradients. They share
        the task of the first checkpoint.

    Raises:
        UserError: a checkpoint is missing, damaged, contains code, or does not fit the
            dictionaries.
    """
    if user_dir is not None:
        utils.import_user_module(argparse.Namespace(user_dir=user_dir))
    # BLEU during training is not part of the model, and would need its tokenizer here.
    overrides = {"data": str(data), "eval_bleu": False}
    task, loaded = None, {}
    for name, paths in paths_by_name.items():
        for path in paths:
            load(path)
        try:
            loaded[name], _, task = checkpoint_utils.load_model_ensemble_and_task(
                [*map(str, paths)], arg_overrides=overrides, task=task
            )
        except Exception as error:  # each architecture and task fails with its own errors
            reason = f"{type(error).__name__}: {error}".splitlines()[-1].strip()
            raise UserError(
                f"model {name}: {', '.join(map(str, paths))} does not load with the dictionaries "
                f"in {data}, expected a checkpoint of fairseq and the data that it was trained on "
                f"({reason})"
            ) from None
        for network in loaded[name]:
            network.float().eval().requires_grad_(False).to(device)
    limits = [network.max_positions() for networks in loaded.values() for network in networks]
    positions = utils.resolve_max_positions(task.max_positions(), *limits)
    return [
        Model(name, paths_by_name[name], networks, task, positions, max_tokens)
        for name, networks in loaded.items()
    ]


def options_of(task):
    """Options of a fairseq task, in either form in which checkpoints store them."""
    return task.args if task.cfg is None else task.cfg


def load_subset(task, data, subset):
    """A fairseq dataset: ``subset`` (test, valid, ...) of the binarized folder ``data``.

    Several subsets of a translation corpus, such as ``test,test1``, become one dataset.

    Raises:
        FileNotFoundError: there is no such subset.
        UserError: it is empty or damaged, or has no target side, or the folder's dictionaries are
            not the task's.
    """
    _check_dictionaries(task, data)
    options_of(task).data, datasets = str(data), []
    for name in subset.split(","):
        for index in Path(data).glob(f"{name}.*idx"):
            check_binary(index.with_suffix(""))
        task.load_dataset(name, combine=False, epoch=1)
        datasets.append(task.dataset(name))
        if getattr(datasets[-1], "tgt", True) is None:
            raise UserError(f"subset {name} of {data} has no target side: binarize it with one")
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


def _check_dictionaries(task, data):
    known = [d.symbols for d in (task.source_dictionary, task.target_dictionary) if d is not None]
    sides = [getattr(options_of(task), f"{side}_lang", None) for side in ("source", "target")]
    # Of a pair, the folder may also hold others' dictionaries.
    names = [f"dict.{side}.txt" for side in sides if side] or ["dict*.txt"]
    paths = [path for name in names for path in Path(data).glob(name)]
    if not paths:
        raise UserError(
            f"{data} holds no dictionary (dict.*.txt); expected a folder that fairseq-preprocess "
            "made"
        )
    for path in paths:
        if Dictionary.load(str(path)).symbols not in known:
            raise UserError(
                f"{path} is not a dictionary of the models; binarize the text with those "
                "(python -m el_fairseq.corpora.binarize --help)"
            )
