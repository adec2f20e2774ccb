"""Can in-domain and out-of-domain sentences be told apart by what a model says of them?"""

import numpy as np
from fairseq.data import LanguagePairDataset
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

RECALL = 0.95
ROC_POINTS = 101


def detections(runner, models, dataset, others, columns, arguments):
    """Detection of each out-of-domain set by each score of each model.

    Args:
        others: datasets by the sets' names.
        columns: token columns of ``dataset`` by the models' names.
        arguments: of the command: ``ood`` (folder and subset of each set), ``seed``, ``bootstrap``.
    """
    in_domain = {("reference", name): sentence_scores(table) for name, table in columns.items()}
    result = {}
    for set_name, other in others.items():
        # Like is compared with like: own translations on both sides where one has no references.
        translate = isinstance(other, LanguagePairDataset) and other.tgt is None
        target = "translation" if translate else "reference"
        label, detected = f"out of domain: {set_name}", {}
        for model in models:
            if (target, model.name) not in in_domain:
                own = runner.token_columns(model, dataset, "own translations", translate)
                in_domain[target, model.name] = sentence_scores(own)
            scores = sentence_scores(runner.token_columns(model, other, label, translate))
            detected[model.name] = {
                score: detection(inside, scores[score], arguments.bootstrap, arguments.seed)
                for score, inside in in_domain[target, model.name].items()
            }
        folder, subset = arguments.ood[set_name]
        result[set_name] = {
            "data": folder,
            "subset": subset,
            "target": target,
            "sentences": len(other) - runner.left_out[label],
            "sentences_left_out": runner.left_out[label],
            "models": detected,
        }
    return result


def sentence_scores(columns):
    """Scores of each sentence, from token columns in the order of sentences.

    Returns:
        A dict of arrays, one value a sentence: mean and least log-probability of its tokens, and
        the means of energy, free energy and entropy, negated. Higher says in-domain.
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


def detection(in_domain, out_of_domain, replicates, seed):
    """How well one score tells in-domain sentences (the positives) from out-of-domain ones.

    Args:
        in_domain: scores of the in-domain sentences, higher for in-domain.
        out_of_domain: scores of the others.
        replicates: bootstrap replicates; sentences are drawn from either set by itself.
        seed: of the bootstrap.

    Returns:
        ``auroc``, ``aupr`` and ``fpr95`` (share of out-of-domain sentences let through where 95 %
        of the in-domain ones are), each a dict of ``value``, ``low`` and ``high`` (95 % interval
        of the bootstrap's percentiles), and the curve ``roc`` at 101 false positive rates.
    """
    labels = np.repeat([1, 0], [len(in_domain), len(out_of_domain)])
    value, curve = _areas(labels, np.concatenate([in_domain, out_of_domain]))
    random = np.random.default_rng(seed)
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
