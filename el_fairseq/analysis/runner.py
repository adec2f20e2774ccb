"""Passes of models over data."""

from fairseq import utils
from fairseq.data import data_utils
from tqdm import tqdm

from ..common.cli import UserError
from .tokens import in_order, token_columns


class Runner:
    """What every pass over data needs: the task, the models' limits, sizes and device."""

    def __init__(self, task, models, max_tokens, device):
        self.task, self.max_tokens, self.device = task, max_tokens, device
        self.padding = task.target_dictionary.pad()
        networks = [network for model in models for network in model.networks]
        self._positions = utils.resolve_max_positions(
            task.max_positions(), *[network.max_positions() for network in networks]
        )

    def batches(self, model, dataset, label):
        """Batches of a dataset, with a progress bar.

        No sentence is dropped but those too long for a model, of any of the models.
        """
        with data_utils.numpy_seed(1):
            ordered = dataset.ordered_indices()
        ordered, _ = dataset.filter_indices_by_size(ordered, self._positions)
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

    def token_columns(self, model, dataset, label, temperature=1):
        """Columns of every target token, :func:`~.tokens.token_columns`.

        Logits are divided by the temperature.
        """
        return in_order(
            [
                token_columns(
                    model.logits(sample) / temperature,
                    *(model.target(sample), sample["id"], self.padding),
                )
                for sample in self.batches(model, dataset, label)
            ]
        )
