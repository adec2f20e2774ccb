"""Named models for analysis: fairseq checkpoints, single or in ensemble, and their data."""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils, utils
from fairseq.data import ConcatDataset, Dictionary, LanguagePairDataset

from ..common.cli import UserError
from ..corpora.binarize import check_binary
from ..fairseq_compat import predicts_by_softmax
from ..safe_load import load


class Model:
    """One or several checkpoints under one name, seen as one function to logits.

    The logits of a single network are its own, unless it overrides ``get_normalized_probs``
    (adaptive softmax, copying, nearest neighbours): its log-probabilities are then the truth, and
    are taken as logits. An ensemble averages probabilities, as fairseq's does; its logits are the
    logarithms of the mean. ``logits_are`` says in words which of the three it is. For
    log-probabilities the free energy is 0 and the energy is ``-log p``.
    """

    def __init__(self, name, paths, networks):
        self.name, self.paths, self.networks = name, paths, networks

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
        if len(self.networks) == 1:
            return self._logits(self.networks[0], sample)
        total = None
        for network in self.networks:
            log_probs = F.log_softmax(self._logits(network, sample).float(), dim=-1)
            total = log_probs if total is None else torch.logaddexp(total, log_probs)
        return total - torch.tensor(float(len(self.networks))).log()

    def _logits(self, network, sample):
        net_output = network(**sample["net_input"])
        if predicts_by_softmax(network):
            return net_output[0]
        return network.get_normalized_probs(net_output, log_probs=True)

    def target(self, sample):
        """Target tokens (B, T) of a batch."""
        return self.networks[0].get_targets(sample, None)


def load_models(paths_by_name, data, user_dir=None, device="cpu"):
    """Load every checkpoint before any long work starts.

    Args:
        paths_by_name: dict of a model's name to a list of checkpoint files.
        data: folder binarized by fairseq-preprocess, whose dictionaries the models must fit.
        user_dir: fairseq's ``--user-dir``, for architectures or tasks outside fairseq.

    Returns:
        ``(task, models)``: fairseq's task of the first checkpoint on ``data``, and a list of
        :class:`Model` in float32, in evaluation mode and without gradients.

    Raises:
        UserError: what is missing, damaged, carries code, or does not fit the dictionaries.
    """
    if user_dir is not None:
        utils.import_user_module(argparse.Namespace(user_dir=user_dir))
    # Scoring during training is no part of the model, and would want its tokenizer here.
    overrides = {"data": str(data), "eval_bleu": False}
    task, models = None, []
    for name, paths in paths_by_name.items():
        networks = []
        for path in paths:
            load(path)
            try:
                [network], _, task = checkpoint_utils.load_model_ensemble_and_task(
                    [str(path)], arg_overrides=overrides, task=task
                )
            except Exception as error:  # architectures and tasks fail in their own ways
                reason = f"{type(error).__name__}: {error}".splitlines()[-1].strip()
                raise UserError(
                    f"model {name}: {path} does not load with the dictionaries in {data}, expected "
                    f"a checkpoint of fairseq and the data that it was trained on ({reason})"
                ) from None
            networks.append(network.float().eval().requires_grad_(False).to(device))
        models.append(Model(name, paths, networks))
    return task, models


def options_of(task):
    """Options of a fairseq task, whichever way its checkpoint kept them."""
    return task.args if task.cfg is None else task.cfg


def load_subset(task, data, subset):
    """A fairseq dataset: ``subset`` (test, valid, ...) of the binarized folder ``data``.

    Several subsets of a translation corpus, ``test,test1``, are one dataset, in that order.

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
        raise UserError(f"--subset is {subset}: of a language model, name one subset")
    sides = [ConcatDataset([getattr(one, side) for one in datasets]) for side in ("src", "tgt")]
    return translation_dataset(task, *sides, first)


def translation_dataset(task, sources, targets, like):
    """Translation dataset of token tensors, padded as the dataset ``like`` is."""
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
    for path in Path(data).glob("dict*.txt"):
        # The folder may hold other pairs of languages, too.
        another = all(sides) and path.name not in [f"dict.{side}.txt" for side in sides]
        if not another and Dictionary.load(str(path)).symbols not in known:
            raise UserError(
                f"{path} is not a dictionary of the models; binarize the text with theirs "
                "(python -m el_fairseq.corpora.binarize --help)"
            )
