"""Calibration before and after one temperature, fitted on the validation set.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2: all logits are
divided by one number, the temperature, chosen so that the negative log-likelihood of held-out
data is least. What a model gets right stays what it was; a temperature above 1 means that it was
too sure of itself.
"""

import math

import torch
import torch.nn.functional as F

from .calibration import calibration
from .models import load_models, load_subset
from .runner import Runner
from .tokens import rows_at_a_time

LEAST, GREATEST = 0.05, 20.0
# The error after a step of Newton's method goes by its square.
RELATIVE_STEP = 1e-3
MOST_PASSES = 30
RULED_OUT = -1e9


def likelihood_and_slopes(logits, target, ignore_index, inverse):
    """Negative log-likelihood of divided logits, and its derivatives in the divisor's inverse.

    Args:
        logits: (..., V), floating point; computed in float64.
        target: (...), class indices, or ``ignore_index`` for positions to leave out.
        inverse: one over the temperature, which the logits are multiplied by.

    Returns:
        A float64 tensor (3,) of sums over the targets that are not ignored: negative
        log-likelihood in nats, and its first and second derivative in ``inverse``.
    """
    logits, target = logits.flatten(0, -2), target.flatten()
    rows = (target != ignore_index).nonzero().squeeze(1)
    sums = torch.zeros(3, dtype=torch.float64)
    for some in rows.split(rows_at_a_time(logits)):
        # A class that is ruled out stays so at any temperature: 0 * -inf would be NaN.
        block = logits[some].double().clamp(min=RULED_OUT)
        at = block.new_tensor(inverse, requires_grad=True)
        with torch.enable_grad():
            nll = F.cross_entropy(at * block, target[some], reduction="sum")
            (first,) = torch.autograd.grad(nll, at, create_graph=True)
            (second,) = torch.autograd.grad(first, at)
        sums += torch.stack([nll, first, second]).detach().cpu()
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


def fit_on(runner, model, valid):
    """Temperature of a model (:class:`~.models.Model`) on a dataset."""

    def slopes(inverse):
        sums = torch.zeros(3, dtype=torch.float64)
        with torch.no_grad():
            for sample in runner.batches(model, valid, "temperature"):
                logits, target = model.logits(sample), model.target(sample)
                sums += likelihood_and_slopes(logits, target, runner.padding, inverse)
        return sums[1:].tolist()

    return fit_temperature(slopes)


def with_temperature(runner, model, valid, dataset, columns=None):
    """Calibration of a model on a dataset, as it is and after a temperature fitted on another.

    Args:
        runner: a :class:`~.runner.Runner`.
        model: a :class:`~.models.Model`.
        valid: the dataset to fit the temperature on.
        dataset: the dataset to measure calibration on.
        columns: token columns of ``dataset``, where they are known already.

    Returns:
        ``temperature``, and under ``before`` and ``after`` what :func:`~.calibration.calibration`
        gives: ``nll_nats`` per token, and ``expected_calibration_error`` (a share) with its
        interval, ``low`` and ``high``.
    """
    temperature = fit_on(runner, model, valid)
    if columns is None:
        columns = runner.token_columns(model, dataset, "tokens")
    after = runner.token_columns(model, dataset, "after temperature", temperature=temperature)
    result = {"temperature": temperature}
    for when, measured in (("before", columns), ("after", after)):
        result[when] = calibration(measured)
        del result[when]["reliability"]
    return result


def of_checkpoints(paths_by_name, data, subset="test", valid="valid", device="cpu", **loading):
    """:func:`with_temperature` of checkpoints, a dict by the models' names.

    Args:
        paths_by_name: dict of a model's name to a list of checkpoint files (an ensemble where
            there are several).
        data: folder that fairseq-preprocess made.
        subset: what to measure calibration on.
        valid: what to fit the temperature on.
        device: ``"cpu"`` or ``"cuda"``.
        loading: for :func:`~.models.load_models`.
    """
    task, models = load_models(paths_by_name, data, device=device, **loading)
    datasets = [load_subset(task, data, name) for name in (valid, subset)]
    runner = Runner(task, models, max_tokens=4096, beam=1, device=device)
    return {model.name: with_temperature(runner, model, *datasets) for model in models}
