import numpy as np
import pytest

from el_fairseq.analysis import ood


def naive(in_domain, others):
    """AUROC by counting pairs, FPR at 95 % recall by trying thresholds."""
    pairs = [(x > y) + 0.5 * (x == y) for x in in_domain for y in others]
    thresholds = sorted(in_domain)
    passing = [t for t in thresholds if np.mean(in_domain >= t) >= 0.95]
    return np.mean(pairs), np.mean(others >= max(passing))


def test_areas_and_false_positives_are_those_of_counting():
    random = np.random.default_rng(1)
    in_domain, others = random.normal(1, 1, 60).round(1), random.normal(0, 1, 80).round(1)
    result, again = (ood.detection(in_domain, others, replicates=50) for _ in range(2))
    assert result["auroc"] == again["auroc"]
    auroc, fpr95 = naive(in_domain, others)
    assert result["auroc"]["value"] == pytest.approx(auroc)
    assert result["fpr95"]["value"] == pytest.approx(fpr95)
    for name in ("auroc", "aupr", "fpr95"):
        assert result[name]["low"] <= result[name]["value"] <= result[name]["high"]
        assert result[name]["low"] < result[name]["high"]
    area = np.trapezoid(result["roc"]["tpr"], result["roc"]["fpr"])
    assert area == pytest.approx(auroc, abs=0.01)


def test_scores_of_a_sentence_are_of_its_own_tokens():
    columns = {
        "sentence": np.array([0, 0, 2, 2, 2]),
        "log_prob": np.array([-1.0, -3.0, -2.0, -2.0, -5.0]),
        "energy": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
        "free_energy": np.array([-4.0, -4.0, -1.0, -2.0, -3.0]),
        "entropy": np.array([0.5, 1.5, 1.0, 2.0, 3.0]),
    }
    scores = ood.sentence_scores(columns)
    assert {name: values.tolist() for name, values in scores.items()} == {
        "mean_log_prob": [-2, -3],
        "min_log_prob": [-3, -5],
        "negative_mean_energy": [-1.5, -4],
        "negative_mean_free_energy": [4, 2],
        "negative_mean_entropy": [-1, -2],
    }
