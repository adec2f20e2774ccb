"""Out-of-domain detection by a model's scores of sentences."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

RECALL = 0.95
ROC_POINTS = 101


def detections(in_domain, out_of_domain, replicates):
    """:func:`detection` by each score of a sentence, for each model, from columns by its name."""
    result = {}
    for name in in_domain:
        inside, outside = (sentence_scores(one[name]) for one in (in_domain, out_of_domain))
        result[name] = {key: detection(inside[key], outside[key], replicates) for key in inside}
    return result


def sentence_scores(columns):
    """Arrays of scores of sentences (higher means in-domain), from columns sorted by sentence."""
    starts = np.flatnonzero(np.diff(columns["sentence"], prepend=-1))
    length = np.diff(starts, append=len(columns["sentence"]))

    def mean(name):
        return np.add.reduceat(columns[name].astype(np.float64), starts) / length

    return {
        "mean_log_prob": mean("log_prob"),
        "min_log_prob": np.minimum.reduceat(columns["log_prob"], starts).astype(np.float64),
        "negative_mean_energy": -mean("energy"),
        "negative_mean_free_energy": -mean("free_energy"),
        "negative_mean_entropy": -mean("entropy"),
    }


def detection(in_domain, out_of_domain, replicates):
    """How well one score separates in-domain sentences (the positives) from out-of-domain ones.

    Args:
        in_domain, out_of_domain: scores of sentences; higher means in-domain.
        replicates: number of bootstrap replicates; sentences are drawn from each set separately.

    Returns:
        ``auroc``, ``aupr`` and ``fpr95`` (share of out-of-domain sentences accepted where 95 % of
        the in-domain ones are), each a dict of ``value``, ``low`` and ``high`` (95 % interval,
        bootstrap percentiles), and the curve ``roc`` at 101 false positive rates.
    """
    sets = in_domain, out_of_domain
    labels = np.repeat([1, 0], [*map(len, sets)])
    value, curve = _areas(labels, np.concatenate(sets))
    random, replicated = np.random.default_rng(1), []
    for _ in range(replicates):
        drawn = [random.choice(scores, len(scores)) for scores in sets]
        replicated.append(_areas(labels, np.concatenate(drawn))[0])
    ends = value, *np.quantile(replicated, (0.025, 0.975), axis=0)
    areas = [dict(zip(("value", "low", "high"), of_area)) for of_area in zip(*ends)]
    result = dict(zip(("auroc", "aupr", "fpr95"), areas))
    grid = np.linspace(0, 1, ROC_POINTS)
    result["roc"] = {"fpr": grid, "tpr": np.interp(grid, *curve)}
    return result


def _areas(labels, scores):
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    at_recall = fpr[np.searchsorted(tpr, RECALL)]
    areas = roc_auc_score(labels, scores), average_precision_score(labels, scores)
    return (*areas, at_recall), (fpr, tpr)
