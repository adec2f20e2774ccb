"""Passes of models over data: batches, columns of tokens, and the models' own translations."""

import argparse

import numpy as np
import torch
from fairseq import utils
from fairseq.data import data_utils
from tqdm import tqdm

from ..common.cli import UserError
from .tokens import TokenTable


class Runner:
    """What every pass over data needs: the task, the models' limits, sizes and device.

    Attributes:
        left_out: by the label of a pass, how many sentences were too long for a model.
    """

    def __init__(self, task, models, max_tokens, beam, device):
        self.task = task
        self.max_tokens = max_tokens
        self.beam = beam
        self.device = device
        self.padding = task.target_dictionary.pad()
        self.left_out = {}
        networks = [network for model in models for network in model.networks]
        self._positions = utils.resolve_max_positions(
            task.max_positions(), *[network.max_positions() for network in networks]
        )

    def batches(self, model, dataset, label, indices=None):
        """Batches of a dataset, or of some of its sentences, with a progress bar.

        No sentence is dropped but those too long for a model, of any of the models.
        """
        with data_utils.numpy_seed(1):
            ordered = dataset.ordered_indices()
        if indices is not None:
            ordered = ordered[np.isin(ordered, indices)]
        ordered, left_out = dataset.filter_indices_by_size(ordered, self._positions)
        self.left_out[label] = len(left_out)
        if len(ordered) == 0:
            raise UserError(f"{label}: every sentence is too long for the models")
        try:
            groups = dataset.batch_by_size(
                ordered, max_tokens=self.max_tokens, required_batch_size_multiple=1
            )
        except AssertionError:
            raise UserError(
                f"--max-tokens is {self.max_tokens}, less than the longest sentence has; raise it"
            ) from None
        name = f"{model.name}, {label}"
        for group in tqdm(groups, desc=name, unit="batch", leave=False, disable=None):
            sample = dataset.collater([dataset[int(index)] for index in group])
            yield utils.move_to_cuda(sample) if self.device == "cuda" else sample

    def token_columns(self, model, dataset, label, translate=False, temperature=1):
        """Columns (:class:`~.tokens.TokenTable`) of every target token.

        ``translate``: the model's own translations take the targets' place. Logits are divided by
        the temperature.
        """
        table = TokenTable()
        own = self.translator(model) if translate else None
        with torch.no_grad():
            for sample in self.batches(model, dataset, label):
                if translate:
                    sample = self._with_target(sample, own(sample))
                logits = model.logits(sample)
                if temperature != 1:
                    logits = logits / temperature
                table.add(logits, model.target(sample), sample["id"], self.padding)
        return table.columns()

    def translator(self, model):
        """A function from a batch to its translations by beam search, tokens that end in eos."""
        options = argparse.Namespace(beam=self.beam, max_len_a=1.2, max_len_b=10)
        generator = self.task.build_generator(model.networks, options)

        def translate(sample):
            hypotheses = generator.generate(model.networks, sample)
            return [best["tokens"] for best, *_ in hypotheses]

        return translate

    def _with_target(self, sample, tokens):
        eos = self.task.target_dictionary.eos()
        target = data_utils.collate_tokens(tokens, self.padding, eos)
        shifted = data_utils.collate_tokens(tokens, self.padding, eos, move_eos_to_beginning=True)
        inputs = {**sample["net_input"], "prev_output_tokens": shifted}
        return {**sample, "target": target, "net_input": inputs}
