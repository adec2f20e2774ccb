"""Measures of every target token, teacher-forced, batch by batch.

To add a measure, write a function of :class:`Rows` with the decorator :func:`measure`. It is then a
column of ``tokens-NAME.npz``. ``analysis.json`` holds its mean, quantiles and histogram; the tables
of the command and of the report show mean and quantiles.
"""

import numpy as np
import torch

# Logits processed at a time on a CPU: few enough to stay in the cache, with any vocabulary.
CPU_BLOCK_ELEMENTS = 1 << 19
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 60

# Name of the column to (function, what tables show of it).
MEASURES = {}


def measure(title, unit="", higher_is_better=None, form=".3f"):
    """Decorator that registers a function from :class:`Rows` to a tensor (N,).

    Args:
        title: name of the measure in tables.
        unit: unit of its values, or ``""``.
        higher_is_better: ``None`` if neither direction is better.
        form: argument of ``format`` to show a value.
    """
    shown = {"title": title, "unit": unit, "higher_is_better": higher_is_better, "form": form}

    def register(function):
        MEASURES[function.__name__] = function, shown
        return function

    return register


class Rows(dict):
    """Values that measures of N target tokens share; ``rows["margin"]`` is a measure.

    Attributes:
        raw: the logits (N, V), float32 or float64. ``-inf`` excludes a class.
        logits: the same minus the largest of each row, ``largest`` (N, 1).
        target: class indices (N, 1), and ``of_target``, their entries of ``logits`` (N, 1).
        weights: probabilities (N, V), up to a factor for each row: they sum to ``total`` (N, 1).
    """

    def __init__(self, logits, target):
        self.raw, self.target = logits, target.unsqueeze(1)
        self.largest = self.raw.amax(1, keepdim=True)
        self.logits = self.raw - self.largest
        self.of_target = self.logits.gather(1, self.target)
        self.weights = self.logits.exp()
        self.total = self.weights.sum(1, keepdim=True)

    def __missing__(self, name):
        function, _ = MEASURES[name]
        self[name] = function(self)
        return self[name]


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
    # 0 * -inf is NaN, but an excluded class must add 0.
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
    # At each position a constant may be added to all logits: only differences have a meaning.
    return -rows["log_prob"] / rows["logit_std"]


def token_columns(logits, target, sentence, padding):
    """All measures of the N target tokens of a batch; nothing of size N x V is kept.

    Args:
        logits: (B, T, V), float32 or float64.
        target: (B, T), class indices, or ``padding`` for positions to leave out.
        sentence: (B,), the numbers of the sentences.

    Returns:
        A dict of numpy arrays (N,): every measure by its name in :data:`MEASURES`, ``sentence``,
        ``position``, ``token``, and ``correct``: whether it is the model's first choice.
    """
    kept = target != padding
    rows, classes = logits.flatten(0, 1), target.flatten()
    at_a_time = len(rows) if rows.is_cuda else max(1, CPU_BLOCK_ELEMENTS // rows.size(1))
    blocks = []
    for some in kept.flatten().nonzero().squeeze(1).split(at_a_time):
        block = Rows(rows[some], classes[some])
        blocks.append({name: block[name] for name in MEASURES})
    columns = {name: torch.cat([block[name] for block in blocks]) for name in MEASURES}
    columns["sentence"] = sentence.to(target).unsqueeze(1).expand_as(target)[kept]
    columns["position"] = (kept.cumsum(1) - 1)[kept]
    columns["token"] = target[kept]
    columns["correct"] = columns["rank"] == 1
    return {name: column.cpu().numpy() for name, column in columns.items()}


def summaries(models):
    """Mean, median, quantiles and histogram: ``{model: {measure: {...}}}``, from columns by model.

    Histograms of a measure have the same edges for all models, so that they can be compared: from
    the lowest 0.5 % quantile of any model to the highest 99.5 % quantile. Values outside are
    counted in ``below`` and ``above``.
    """
    result = {name: {} for name in models}
    for measured in MEASURES:
        values = {name: of[measured].astype(np.float64) for name, of in models.items()}
        ends = [np.quantile(one[np.isfinite(one)], (0.005, 0.995)) for one in values.values()]
        low, high = np.min(ends), np.max(ends)
        edges = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
        for name, one in values.items():
            result[name][measured] = {
                "mean": one.mean(),
                "median": np.median(one),
                "quantiles": {str(q): np.quantile(one, q) for q in QUANTILES},
                "histogram": {
                    "bin_edges": edges,
                    "tokens": np.histogram(one, edges)[0],
                    "below": (one < low).sum(),
                    "above": (one > edges[-1]).sum(),
                },
            }
    return result
