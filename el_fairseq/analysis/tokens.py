"""What a model says of every target token, teacher-forced, batch by batch.

To add a measure, write a function of :class:`Rows` under :func:`measure`. It is then a column of
``tokens-NAME.npz``; mean, quantiles and histogram stand in ``analysis.json``, mean and quantiles in
the tables of the command and of the report.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Optional

import numpy as np
import torch

# Rows of logits worked on at a time on a CPU: few enough to stay in cache, with any vocabulary.
CPU_BLOCK_ELEMENTS = 1 << 19
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 60


@dataclass(frozen=True)
class Measure:
    """A number for every target token.

    Attributes:
        title: what tables call it.
        unit: of its values, ``""`` where they have none.
        higher_is_better: ``None`` where neither is.
        form: how ``format`` shows it, such as ``".3f"``.
        function: from :class:`Rows` to a tensor (N,).
    """

    title: str
    unit: str
    higher_is_better: Optional[bool]
    form: str
    function: Callable


# By the names of their columns, which are those of their functions.
MEASURES = {}


def measure(title, unit="", higher_is_better=None, form=".3f"):
    """Decorator: makes a function of :class:`Rows` a :class:`Measure` in :data:`MEASURES`."""

    def register(function):
        MEASURES[function.__name__] = Measure(title, unit, higher_is_better, form, function)
        return function

    return register


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


@measure("log-probability", "nats", higher_is_better=True)
def log_prob(rows):
    return (rows.of_target - rows.total.log()).squeeze(1)


@measure("probability", higher_is_better=True)
def prob(rows):
    return rows["log_prob"].exp()


@measure("probability of the first choice")
def confidence(rows):
    return 1 / rows.total.squeeze(1)


@measure("rank among all classes", higher_is_better=False, form=".1f")
def rank(rows):
    return 1 + (rows.logits > rows.of_target).sum(1)


@measure("entropy of the prediction", "nats")
def entropy(rows):
    # 0 * -inf is NaN: a class that is ruled out adds nothing.
    finite = rows.logits.clamp(min=torch.finfo(rows.logits.dtype).min)
    expected = (rows.weights * finite).sum(1, keepdim=True) / rows.total
    return (rows.total.log() - expected).squeeze(1)


@measure("energy, -f(x)[y]", "logits", higher_is_better=False)
def energy(rows):
    return -rows.raw.gather(1, rows.target).squeeze(1)


@measure("free energy, -logsumexp f(x)", "logits")
def free_energy(rows):
    return -(rows.largest + rows.total.log()).squeeze(1)


@measure("margin to the best other class", "logits", higher_is_better=True)
def margin(rows):
    best_other = rows.logits.scatter(1, rows.target, -np.inf).amax(1)
    return rows.of_target.squeeze(1) - best_other


@measure("standard deviation of the logits", "logits")
def logit_std(rows):
    logits, classes = rows.logits, rows.logits.size(1)
    std = (logits - logits.mean(1, keepdim=True)).norm(dim=1) / classes**0.5  # fast, unlike .std()
    if std.isfinite().all():
        return std
    kept = logits.masked_fill(logits.isinf(), np.nan)
    return (kept - kept.nanmean(1, keepdim=True)).square().nanmean(1).sqrt()


@measure("margin", "standard deviations of the logits", higher_is_better=True)
def relative_margin(rows):
    return rows["margin"] / rows["logit_std"]


@measure("energy - free energy", "standard deviations of the logits", higher_is_better=False)
def relative_energy(rows):
    # Logits are free up to a constant at each position: only the difference has a scale.
    return -rows["log_prob"] / rows["logit_std"]


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
    logits, target = logits.flatten(0, -2), target.flatten()
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


def summaries(columns_of_models):
    """Mean, median, quantiles and histogram of each measure, for each model.

    Args:
        columns_of_models: token columns by the models' names.

    Returns:
        A dict by models of dicts by measures. Histograms of a measure have the same edges for all
        models, so that they compare: from the lowest 0.5 % quantile of any model to the highest
        99.5 %. What lies outside is counted in ``below`` and ``above``.
    """
    result = {name: {} for name in columns_of_models}
    for measure_name in MEASURES:
        values = {name: columns[measure_name] for name, columns in columns_of_models.items()}
        ends = [np.quantile(one[np.isfinite(one)], (0.005, 0.995)) for one in values.values()]
        low, high = np.min(ends), np.max(ends)
        edges = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
        for name, one in values.items():
            result[name][measure_name] = _summary(one.astype(np.float64), edges)
    return result


def _summary(values, edges):
    return {
        "mean": values.mean(),
        "median": np.median(values),
        "quantiles": {str(q): np.quantile(values, q) for q in QUANTILES},
        "histogram": {
            "bin_edges": edges,
            "tokens": np.histogram(values, edges)[0],
            "below": int((values < edges[0]).sum()),
            "above": int((values > edges[-1]).sum()),
        },
    }
