"""Out-of-domain detection by a model's scores of sentences."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

RECALL = 0.95
ROC_POINTS = 101


def detections(in_domain, out_of_domain, replicates):
    """:func:`detection` by each score of a sentence, for each model.

    Args:
        in_domain, out_of_domain: token columns by the models' names.
    """
    result = {}
    for name in in_domain:
        inside, outside = (sentence_scores(one[name]) for one in (in_domain, out_of_domain))
        result[name] = {
            score: detection(inside[score], outside[score], replicates) for score in inside
        }
    return result


def sentence_scores(columns):
    """Scores of each sentence, from token columns sorted by sentence.

    Returns:
        A dict of arrays with one value for each sentence: mean and lowest log-probability of its
        tokens, and the negated means of energy, free energy and entropy. Higher means in-domain.
    """
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
        in_domain: scores of the in-domain sentences; higher means in-domain.
        out_of_domain: scores of the others.
        replicates: number of bootstrap replicates; sentences are drawn from each set separately.

    Returns:
        ``auroc``, ``aupr`` and ``fpr95`` (share of out-of-domain sentences accepted where 95 % of
        the in-domain ones are), each a dict of ``value``, ``low`` and ``high`` (95 % interval,
        bootstrap percentiles), and the curve ``roc`` at 101 false positive rates.
    """
    labels = np.repeat([1, 0], [len(in_domain), len(out_of_domain)])
    value, curve = _areas(labels, np.concatenate([in_domain, out_of_domain]))
    random = np.random.default_rng(1)
    replicated = []
    for _ in range(replicates):
        drawn = [random.choice(scores, len(scores)) for scores in (in_domain, out_of_domain)]
        replicated.append(_areas(labels, np.concatenate(drawn))[0])
    low, high = np.quantile(replicated, (0.025, 0.975), axis=0)
    result = {
        name: {"value": value[i], "low": low[i], "high": high[i]}
        for i, name in enumerate(("auroc", "aupr", "fpr95"))
    }
    grid = np.linspace(0, 1, ROC_POINTS)
    result["roc"] = {"fpr": grid, "tpr": np.interp(grid, *curve)}
    return result


def _areas(labels, scores):
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    at_recall = fpr[np.searchsorted(tpr, RECALL)]
    areas = roc_auc_score(labels, scores), average_precision_score(labels, scores)
    return (*areas, at_recall), (fpr, tpr)
