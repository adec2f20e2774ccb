"""Is a model right as often as it says?"""

import numpy as np

BINS = 15
RESAMPLES = 1000
NORMAL_95 = 1.96


def calibration(columns):
    """Expected calibration error and reliability curve of the model's first choices.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2: first choices
    are sorted by their probability (the confidence) into 15 bins of equal width, the upper bound
    inside; the error is the mean over tokens of ``|accuracy - confidence|`` of their bin.

    Its 95 % interval is 1.96 standard deviations of a bootstrap over sentences to either side. (The
    bootstrap's percentiles would lie too high: noise adds to an error that is never negative.)
    """
    confidence = columns["confidence"].astype(np.float64)
    bins = bins_of(confidence, BINS)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, minlength=BINS) / count
        accuracy = np.bincount(bins, columns["correct"], minlength=BINS) / count
    error = _error(np.bincount(bins, columns["correct"] - confidence, minlength=BINS), len(bins))
    deviation = _resampled(columns, bins, columns["correct"] - confidence).std()
    return {
        "expected_calibration_error": float(error),
        "low": float(max(error - NORMAL_95 * deviation, 0)),
        "high": float(error + NORMAL_95 * deviation),
        "nll_nats": float(-columns["log_prob"].mean(dtype=np.float64)),
        "reliability": {
            "bin_edges": np.linspace(0, 1, BINS + 1),
            "tokens": count,
            "confidence": mean_confidence,
            "accuracy": accuracy,
        },
    }


def _error(gaps, tokens):
    """The error by the sums of ``right - confidence`` in each bin (..., BINS)."""
    return np.abs(gaps).sum(-1) / tokens


def _resampled(columns, bins, gaps):
    """Errors (RESAMPLES,) with the sentences drawn anew."""
    _, sentence = np.unique(columns["sentence"], return_inverse=True)
    sentences = sentence.max() + 1
    of_sentences = np.zeros((sentences, BINS))
    np.add.at(of_sentences, (sentence, bins), gaps)
    draw = np.random.default_rng(1)
    drawn = draw.multinomial(sentences, np.full(sentences, 1 / sentences), size=RESAMPLES)
    return _error(drawn @ of_sentences, drawn @ np.bincount(sentence))


def bins_of(probability, count):
    """Which of ``count`` bins of equal width in [0, 1] each probability lies in."""
    return np.clip(np.ceil(probability * count).astype(int) - 1, 0, count - 1)
