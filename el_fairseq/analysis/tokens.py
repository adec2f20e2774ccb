"""What a model says of every target token, teacher-forced, batch by batch.

To add a measure, write a function of :class:`Rows` and name it in :data:`MEASURES`. It is then a
column of ``tokens-NAME.npz``; mean, quantiles and histogram stand in ``analysis.json``, the mean in
the table that the command prints, and mean and quantiles in the report.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Optional

import numpy as np
import torch

# Rows of logits worked on at a time on a CPU: few enough to stay in cache, with any vocabulary.
CPU_BLOCK_ELEMENTS = 1 << 19


@dataclass(frozen=True)
class Measure:
    """A number for every target token.

    Attributes:
        name: of its column.
        title: what tables call it.
        unit: of its values, ``""`` where they have none.
        higher_is_better: ``None`` where neither is.
        form: how ``format`` shows it, such as ``".3f"``.
        function: from :class:`Rows` to a tensor (N,).
    """

    name: str
    title: str
    unit: str
    higher_is_better: Optional[bool]
    form: str
    function: Callable


class Rows:
    """Logits of N target tokens, and what measures share. ``rows["margin"]`` is another measure.

    Attributes:
        raw: the logits (N, V), at least float32. ``-inf`` is a class that is ruled out.
        logits: the same less the largest of each row, ``largest`` (N, 1).
        target: class indices (N, 1).
    """

    def __init__(self, logits, target):
        half = logits.dtype in (torch.float16, torch.bfloat16)
        self.raw = logits.float() if half else logits
        self.target = target.unsqueeze(1)
        self.largest = self.raw.amax(1, keepdim=True)
        self.logits = self.raw - self.largest
        self._columns = {}

    def __getitem__(self, name):
        if name not in self._columns:
            self._columns[name] = MEASURES[name].function(self)
        return self._columns[name]

    @cached_property
    def of_target(self):
        """Entries of ``logits`` for the targets (N, 1)."""
        return self.logits.gather(1, self.target)

    @cached_property
    def weights(self):
        """Probabilities (N, V), but for a factor of each row's."""
        return self.logits.exp()

    @cached_property
    def total(self):
        """Sum of a row's ``weights`` (N, 1)."""
        return self.weights.sum(1, keepdim=True)


def log_prob(rows):
    return (rows.of_target - rows.total.log()).squeeze(1)


def prob(rows):
    return rows["log_prob"].exp()


def confidence(rows):
    return 1 / rows.total.squeeze(1)


def rank(rows):
    return 1 + (rows.logits > rows.of_target).sum(1)


def entropy(rows):
    # 0 * -inf is NaN: a class that is ruled out adds nothing.
    finite = rows.logits.clamp(min=torch.finfo(rows.logits.dtype).min)
    expected = (rows.weights * finite).sum(1, keepdim=True) / rows.total
    return (rows.total.log() - expected).squeeze(1)


def energy(rows):
    return -rows.raw.gather(1, rows.target).squeeze(1)


def free_energy(rows):
    return -(rows.largest + rows.total.log()).squeeze(1)


def margin(rows):
    best_other = rows.logits.scatter(1, rows.target, -np.inf).amax(1)
    return rows.of_target.squeeze(1) - best_other


def logit_std(rows):
    logits, classes = rows.logits, rows.logits.size(1)
    std = (logits - logits.mean(1, keepdim=True)).norm(dim=1) / classes**0.5  # fast, unlike .std()
    if std.isfinite().all():
        return std
    kept = logits.masked_fill(logits.isinf(), np.nan)
    return (kept - kept.nanmean(1, keepdim=True)).square().nanmean(1).sqrt()


def relative_margin(rows):
    return rows["margin"] / rows["logit_std"]


def relative_energy(rows):
    # Logits are free up to a constant at each position: only the difference has a scale.
    return -rows["log_prob"] / rows["logit_std"]


DEVIATIONS = "standard deviations of the logits"
MEASURES = {
    measure.name: measure
    for measure in (
        Measure("log_prob", "log-probability", "nats", True, ".3f", log_prob),
        Measure("prob", "probability", "", True, ".3f", prob),
        Measure("confidence", "probability of the first choice", "", None, ".3f", confidence),
        Measure("rank", "rank among all classes", "", False, ".1f", rank),
        Measure("entropy", "entropy of the prediction", "nats", None, ".3f", entropy),
        Measure("energy", "energy, -f(x)[y]", "logits", False, ".3f", energy),
        Measure("free_energy", "free energy, -logsumexp f(x)", "logits", None, ".3f", free_energy),
        Measure("margin", "margin to the best other class", "logits", True, ".3f", margin),
        Measure("logit_std", "standard deviation of the logits", "logits", None, ".3f", logit_std),
        Measure("relative_margin", "margin", DEVIATIONS, True, ".3f", relative_margin),
        Measure(
            "relative_energy", "energy - free energy", DEVIATIONS, False, ".3f", relative_energy
        ),
    )
}


def token_columns(logits, target, ignore_index):
    """Every measure of the targets, in float32 (float64 for float64 logits).

    Args:
        logits: (..., V), floating point; float16 and bfloat16 are computed in float32. A row may
            hold ``-inf`` for classes that are ruled out.
        target: (...), class indices, or ``ignore_index`` for positions to leave out.

    Returns:
        A dict by the names in :data:`MEASURES` of tensors (N,), N the number of targets that are
        not ignored, in row order.
    """
    classes = logits.size(-1)
    logits, target = logits.reshape(-1, classes), target.reshape(-1)
    kept = (target != ignore_index).nonzero().squeeze(1)
    blocks = []
    for some in kept.split(rows_at_a_time(logits)):
        rows = Rows(logits[some], target[some])
        blocks.append({name: rows[name] for name in MEASURES})
    return {name: torch.cat([columns[name] for columns in blocks]) for name in MEASURES}


def rows_at_a_time(logits):
    """How many rows of logits (N, V) to work on at a time: all on a GPU, few on a CPU."""
    if logits.is_cuda:
        return len(logits)
    return max(1, CPU_BLOCK_ELEMENTS // logits.size(-1))


class TokenTable:
    """Columns of all target tokens, gathered batch by batch; nothing of size tokens x V."""

    def __init__(self):
        self._batches = []

    def add(self, logits, target, sentence, padding):
        """Add a batch: ``logits`` (B, T, V), ``target`` (B, T), ``sentence`` (B,) their numbers."""
        columns = token_columns(logits, target, padding)
        kept = target != padding
        columns["sentence"] = sentence.to(target).unsqueeze(1).expand_as(target)[kept]
        columns["position"] = (kept.cumsum(1) - 1)[kept]
        columns["token"] = target[kept]
        self._batches.append({name: column.cpu().numpy() for name, column in columns.items()})

    def columns(self):
        """All columns as numpy arrays, in the order of sentences and positions."""
        joined = {
            name: np.concatenate([batch[name] for batch in self._batches])
            for name in self._batches[0]
        }
        order = np.lexsort((joined["position"], joined["sentence"]))
        columns = {name: column[order] for name, column in joined.items()}
        columns["correct"] = columns["rank"] == 1
        return columns
