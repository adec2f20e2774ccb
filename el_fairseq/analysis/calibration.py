"""Is a model right as often as it says, as it is and after one temperature?"""

import math

import numpy as np
import torch

from .models import load_models, load_subset
from .runner import Runner
from .tokens import rows_at_a_time

BINS = 15
RESAMPLES = 1000
NORMAL_95 = 1.96

LEAST, GREATEST = 0.05, 20.0
# The error after a step of Newton's method goes by its square.
RELATIVE_STEP = 1e-3
MOST_PASSES = 30
RULED_OUT = -1e9


def calibration(columns):
    """Expected calibration error and reliability curve of the model's first choices.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2: first choices
    are sorted by their probability (the confidence) into 15 bins of equal width, the upper bound
    inside; the error is the mean over tokens of ``|accuracy - confidence|`` of their bin.

    Its 95 % interval is 1.96 standard deviations of a bootstrap over sentences to either side. (The
    bootstrap's percentiles would lie too high: noise adds to an error that is never negative.)
    """
    confidence = columns["confidence"].astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
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


def slopes(logits, target, ignore_index, inverse):
    """Derivatives of the negative log-likelihood of ``inverse * logits`` in ``inverse``.

    Args:
        logits: (..., V), floating point; computed in float64.
        target: (...), class indices, or ``ignore_index`` for positions to leave out.
        inverse: one over the temperature.

    Returns:
        A float64 tensor (2,): the sums over targets of the first and of the second derivative.
    """
    logits, target = logits.flatten(0, -2), target.flatten()
    rows = (target != ignore_index).nonzero().squeeze(1)
    sums = torch.zeros(2, dtype=torch.float64)
    for some in rows.split(rows_at_a_time(logits)):
        # A class that is ruled out stays so at any temperature: 0 * -inf would be NaN.
        block = logits[some].double().clamp(min=RULED_OUT)
        probs = (inverse * block).softmax(1)
        mean = (probs * block).sum(1, keepdim=True)
        first = (mean - block.gather(1, target[some].unsqueeze(1))).sum()
        second = (probs * (block - mean).square()).sum()
        sums += torch.stack([first, second]).cpu()
    return sums


def fit_temperature(slopes):
    """The temperature of least negative log-likelihood, from 0.05 to 20.

    Args:
        slopes: a function of one over the temperature to the first and second derivative of the
            negative log-likelihood, which is convex in it.
    """
    # Newton's method, kept between the ends that the sign of the first derivative leaves.
    low, high, inverse = 1 / GREATEST, 1 / LEAST, 1.0
    for _ in range(MOST_PASSES):
        first, second = slopes(inverse)
        if first > 0:
            high = inverse
        else:
            low = inverse
        before = inverse
        inverse = before - first / second if second > 0 else low
        if not low < inverse < high:
            inverse = math.sqrt(low * high)
        if abs(inverse - before) <= RELATIVE_STEP * before:
            break
    return 1 / inverse


def with_temperature(runner, model, valid, dataset, columns):
    """Calibration of a model on a dataset, as it is and after one temperature.

    Guo et al., section 4.2: all logits are divided by the temperature, which is the one of least
    negative log-likelihood on the dataset ``valid``. A temperature above 1 means that the model was
    too sure of itself; what it ranks first stays the same.

    Args:
        runner: a :class:`~.runner.Runner`.
        model: a :class:`~.models.Model`.
        columns: token columns of ``dataset``.

    Returns:
        ``temperature``, and under ``before`` and ``after`` what :func:`calibration` gives:
        ``nll_nats`` per token, and ``expected_calibration_error`` (a share) with its interval,
        ``low`` and ``high``.
    """

    def slopes_on_valid(inverse):
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for sample in runner.batches(model, valid, "temperature"):
                logits, target = model.logits(sample), model.target(sample)
                sums += slopes(logits, target, runner.padding, inverse)
        return sums.tolist()

    temperature = fit_temperature(slopes_on_valid)
    after = runner.token_columns(model, dataset, "after temperature", temperature=temperature)
    result = {"temperature": temperature}
    for when, measured in (("before", columns), ("after", after)):
        result[when] = calibration(measured)
        del result[when]["reliability"]
    return result


def of_checkpoint(path, data, subset, device):
    """:func:`with_temperature` of a checkpoint file on a subset of a folder of binary data.

    The temperature is fitted on its subset ``valid``.
    """
    task, (model,) = load_models({"model": [path]}, data, device=device)
    valid, dataset = (load_subset(task, data, name) for name in ("valid", subset))
    runner = Runner(task, [model], max_tokens=4096, beam=1, device=device)
    columns = runner.token_columns(model, dataset, "tokens")
    return with_temperature(runner, model, valid, dataset, columns)
