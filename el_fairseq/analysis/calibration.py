"""Is a model right as often as it says? And how right is it at each probability?"""

import numpy as np

from .gradient import gradient_size
from .tokens import top_log_prob

BINS = 15
PROBABILITY_BINS = 10


def calibration(columns):
    """Expected calibration error and reliability curve of the model's first choices.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2: first choices
    are sorted by their probability (the confidence) into 15 bins of equal width, the upper bound
    inside; the error is the mean over tokens of ``|accuracy - confidence|`` of their bin.
    """
    confidence = np.exp(top_log_prob(columns).astype(np.float64))
    bins = _bins(confidence, BINS)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, minlength=BINS) / count
        accuracy = np.bincount(bins, columns["correct"], minlength=BINS) / count
    gap = np.abs(accuracy - mean_confidence)
    return {
        "expected_calibration_error": float(np.nansum(gap * count) / count.sum()),
        "nll_nats": float(-columns["log_prob"].mean(dtype=np.float64)),
        "reliability": {
            "bin_edges": np.linspace(0, 1, BINS + 1),
            "tokens": count,
            "confidence": mean_confidence,
            "accuracy": accuracy,
        },
    }


def by_target_probability(columns, log_end):
    """Tokens, accuracy and share of the gradient in ten bins of the target's probability."""
    bins = _bins(columns["prob"], PROBABILITY_BINS)
    count = np.bincount(bins, minlength=PROBABILITY_BINS)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(bins, columns["correct"], minlength=PROBABILITY_BINS) / count
    table = {
        "bin_edges": np.linspace(0, 1, PROBABILITY_BINS + 1),
        "tokens": count,
        "accuracy": accuracy,
    }
    for loss, end in (("ce", None), ("el", log_end)):
        size = gradient_size(columns["prob"], end)
        table[f"gradient_{loss}"] = np.bincount(bins, size, minlength=PROBABILITY_BINS) / size.sum()
    return table


def _bins(probability, count):
    return np.clip(np.ceil(probability * count).astype(int) - 1, 0, count - 1)
