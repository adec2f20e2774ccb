"""Named models from fairseq checkpoints, single or in an ensemble, and their passes over data."""

import argparse

import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils, utils
from fairseq.data import data_utils
from tqdm import tqdm

from ..common.cli import UserError
from ..fairseq_compat import predicts_by_softmax
from ..safe_load import load
from .tokens import in_order, token_columns


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
        name = f"{self.name}, {label}"
        for group in tqdm(groups, desc=name, unit="batch", leave=False, disable=None):
            sample = dataset.collater([dataset[int(index)] for index in group])
            yield utils.move_to_cuda(sample) if on_gpu else sample

    def token_columns(self, dataset, label, temperature=1):
        """Columns of every target token (:func:`~.tokens.token_columns`), logits divided by the
        temperature."""
        return in_order(
            [
                token_columns(
                    self.logits(sample).div_(temperature),
                    *(self.target(sample), sample["id"], self.padding),
                )
                for sample in self.batches(dataset, label)
            ]
        )


def load_models(paths_by_name, data, user_dir=None, device="cpu", max_tokens=4096):
    """Load every checkpoint before any long work starts.

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
    task, networks = None, {name: [] for name in paths_by_name}
    for name, path in ((name, path) for name, paths in paths_by_name.items() for path in paths):
        load(path)
        try:
            [network], _, task = checkpoint_utils.load_model_ensemble_and_task(
                [str(path)], arg_overrides=overrides, task=task
            )
        except Exception as error:  # each architecture and task fails with its own errors
            reason = f"{type(error).__name__}: {error}".splitlines()[-1].strip()
            raise UserError(
                f"model {name}: {path} does not load with the dictionaries in {data}, expected "
                f"a checkpoint of fairseq and the data that it was trained on ({reason})"
            ) from None
        networks[name].append(network.float().eval().requires_grad_(False).to(device))
    limits = [network.max_positions() for some in networks.values() for network in some]
    positions = utils.resolve_max_positions(task.max_positions(), *limits)
    return [
        Model(name, paths, networks[name], task, positions, max_tokens)
        for name, paths in paths_by_name.items()
    ]
