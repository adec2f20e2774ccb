"""Calibration: is a model right as often as it says, before and after temperature scaling?"""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from .models import load_models, load_subset

BINS = 15
RESAMPLES = 1000
NORMAL_95 = 1.96
TEMPERATURES = 0.05, 20.0


def calibration(columns):
    """Expected calibration error and reliability curve of the model's first choices.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2: first choices
    are sorted by their probability (the confidence) into 15 bins of equal width, which include
    their upper bound. The error is the mean of ``|accuracy - confidence|`` of the tokens' bins.
    Its 95 % interval is 1.96 standard deviations of a bootstrap over sentences to either side;
    the bootstrap's percentiles would be too high, as noise increases the error.
    """
    confidence = columns["confidence"].astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    sentences, sentence = np.unique(columns["sentence"], return_inverse=True)
    gaps, tokens = np.zeros((len(sentences), BINS)), np.bincount(sentence)
    np.add.at(gaps, (sentence, bins), columns["correct"] - confidence)
    error = np.abs(gaps.sum(0)).sum() / len(bins)
    even = np.full(len(sentences), 1 / len(sentences))
    drawn = np.random.default_rng(1).multinomial(len(sentences), even, size=RESAMPLES)
    deviation = (np.abs(drawn @ gaps).sum(1) / (drawn @ tokens)).std()
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):  # an empty bin
        mean_confidence, accuracy = (
            np.bincount(bins, values, minlength=BINS) / count
            for values in (confidence, columns["correct"])
        )
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


def fit_temperature(nll):
    """The temperature, from 0.05 to 20, at which ``nll(temperature)`` is lowest."""
    found = minimize_scalar(
        lambda log_temperature: nll(math.exp(log_temperature)),
        bounds=[math.log(end) for end in TEMPERATURES],
        method="bounded",
        options={"xatol": 1e-4},
    )
    return math.exp(found.x)


def with_temperature(model, valid, dataset, columns):
    """Calibration of a model on a dataset with token columns, and after temperature scaling.

    Guo et al., section 4.2: all logits are divided by the temperature that has the lowest negative
    log-likelihood on the dataset ``valid``. A temperature above 1 means that the model was
    overconfident. The first choices stay the same.

    Returns:
        ``temperature``, and ``before`` and ``after``, results of :func:`calibration`: ``nll_nats``
        per token, and ``expected_calibration_error`` (a share) with its interval, ``low`` and
        ``high``.
    """

    def nll_on_valid(temperature):
        log_prob = model.token_columns(valid, "temperature", temperature)["log_prob"]
        return -float(log_prob.sum(dtype=np.float64))

    temperature = fit_temperature(nll_on_valid)
    after = model.token_columns(dataset, "after temperature", temperature)
    before, after = calibration(columns), calibration(after)
    del before["reliability"], after["reliability"]
    return {"temperature": temperature, "before": before, "after": after}


def of_checkpoint(path, data, subset, device):
    """:func:`with_temperature` of a checkpoint file on a subset of binary data, with its valid."""
    (model,) = load_models({"model": [path]}, data, device=device)
    valid, dataset = (load_subset(model.task, data, name) for name in ("valid", subset))
    return with_temperature(model, valid, dataset, model.token_columns(dataset, "tokens"))
