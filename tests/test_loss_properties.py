"""Random rows, 64 in an example, against the literal formula in float64, by every way to it.

``pytest tests/test_loss_properties.py --loss-rows 1000000`` tries as many as wanted.
"""

import pytest
import torch
from formula import literal_losses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.func import grad, jvp, vmap

from el_fairseq import encouraging_loss, linear_encouraging_loss

ROWS = 64
# Of the loss, or of the largest entry of a row's gradient; the gradient is rounded to its dtype.
TOLERANCE = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (5e-6, 1e-6),
    torch.bfloat16: (5e-6, 1.1 * 2**-7),  # rounded twice
    torch.float16: (5e-6, 2**-10),
}
LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.t().contiguous().t(),
    "every other": lambda x: torch.stack([x, x], -1)[..., 0],
    "wide": lambda x: torch.cat([x, x], 1)[:, : x.size(1)],
    "one row": lambda x: x[:1].expand(x.shape),
}


OPTIONS = st.fixed_dictionaries(
    {
        "log_end": st.sampled_from([0.05, 0.25, 0.5, 0.75, 1.0]) | st.floats(0.02, 0.98),
        "label_smoothing": st.sampled_from([0.0, 0.1, 0.9]),
        "bonus_weight": st.sampled_from([0.0, 1, 0.5, 3.0]),
        # As a share of the log end; not among the probabilities that ties make: at the jump,
        # rounding decides the side.
        "bonus_start": st.sampled_from([0, 0, 0.0317, 0.7071]),
    }
)


def tensors(classes, ignored, weighted, seed):
    """Logits (64, V) of all kinds, targets, class weights, and a factor for each row."""
    generator = torch.Generator().manual_seed(seed)

    def random(*choices):
        return torch.tensor(choices)[torch.randint(len(choices), (ROWS, 1), generator=generator)]

    logits = torch.randn(ROWS, classes, generator=generator, dtype=torch.float64)
    logits = logits * random(0.0, 1e-3, 1.0, 3.0, 10.0, 100.0) + random(0.0, 0.0, 500.0)
    logits = torch.where(random(True, False, False), logits.round(), logits)  # ties
    target = torch.randint(classes, (ROWS,), generator=generator)
    # Targets of probability 1 and 0, to rounding.
    logits.scatter_add_(1, target.unsqueeze(1), random(0.0, 0.0, 5.0, 60.0, -200.0).double())
    target[torch.rand(ROWS, generator=generator) < ignored] = -100
    weight = torch.rand(classes, generator=generator) if weighted else None
    return logits, target, weight, torch.rand(ROWS, generator=generator, dtype=torch.float64)


def literal(logits, target, options, weight, of_rows, reduction):
    """The reduced loss in float64, and its gradient times ``of_rows`` (or its first entry)."""
    logits = logits.detach().double().requires_grad_()
    counts = target != -100
    weights = torch.ones(logits.size(1)).double() if weight is None else weight.double()
    losses = literal_losses(logits, target.clamp(min=0), class_weight=weights, **options)
    losses = losses.masked_fill(~counts, 0)
    if reduction == "none":
        loss = losses
    else:
        total = (weights[target.clamp(min=0)] * counts).sum()
        loss = losses.sum() / (total if reduction == "mean" and total else 1)
    (gradient,) = torch.autograd.grad(loss, logits, of_rows if loss.dim() else of_rows[0])
    return loss.detach(), gradient


def backward(function, logits, factor):
    loss = function(logits)
    return loss, torch.autograd.grad(loss, logits, factor(loss))[0]


def backward_twice(function, logits, factor):
    loss = function(logits)
    torch.autograd.grad(loss, logits, factor(loss), retain_graph=True)[0].fill_(9)
    return loss, torch.autograd.grad(loss, logits, factor(loss))[0]


def differentiable_backward(function, logits, factor):
    loss = function(logits)
    return loss, torch.autograd.grad(loss, logits, factor(loss), create_graph=True)[0]


def batched_backward(function, logits, factor):
    loss = function(logits)
    several = torch.stack([torch.zeros_like(loss), factor(loss)])
    return loss, torch.autograd.grad(loss, logits, several, is_grads_batched=True)[0][1]


def functional_grad(function, logits, factor):
    loss = function(logits)
    return loss, grad(lambda x: (function(x) * factor(loss)).sum())(logits)


def batched_function(function, logits, factor):
    loss = vmap(function)(torch.stack([logits, logits.flip(0)]))[0]
    return loss, functional_grad(function, logits, factor)[1]


def forward_mode(function, logits, factor):
    loss, gradient = backward(function, logits, factor)
    tangent = torch.randn(logits.shape, dtype=logits.dtype)
    primal, directional = jvp(function, (logits.contiguous(),), (tangent,))
    expected = (gradient.double() * tangent).sum()
    scale = (gradient.double() * tangent).abs().sum() + 1e-3
    assert ((directional * factor(loss)).sum() - expected).abs() < 0.01 * scale
    return primal, gradient


def projected(function, logits, factor):
    """Through a projection that gives the logits themselves."""
    classes = logits.size(1)
    if classes > 64:
        return backward(function, logits, factor)
    loss = function.projected(logits, torch.eye(classes, dtype=logits.dtype))
    return loss, torch.autograd.grad(loss, logits, factor(loss))[0]


def in_place(function, logits, factor):
    copy = logits * 1
    loss = function(copy, inplace_backward=True)
    return loss, torch.autograd.grad(loss, copy, factor(loss))[0]


BY_KERNEL = [backward, backward_twice, projected, in_place]
BY_FORMULA = [differentiable_backward, batched_backward, functional_grad, batched_function]
WAYS = [*BY_KERNEL, *BY_FORMULA, forward_mode]


def check(dtype, layout, reduction, way, options, classes, ignored, weighted, seed):
    logits, target, weight, of_rows = tensors(classes, ignored, weighted, seed)
    options = {**options, "bonus_start": options["bonus_start"] * options["log_end"]}
    logits = LAYOUTS[layout](logits.to(dtype)).requires_grad_()

    def function(logits, **more):
        return encouraging_loss(
            logits, target, weight=weight, reduction=reduction, **options, **more
        )

    function.projected = lambda hidden, matrix: linear_encouraging_loss(
        hidden, matrix, target, class_weight=weight, reduction=reduction, **options
    )

    def factor(loss):
        return of_rows.to(loss.dtype) if loss.dim() else of_rows[0].to(loss.dtype)

    loss, gradient = way(function, logits, factor)
    expected, expected_gradient = literal(logits, target, options, weight, of_rows, reduction)
    of_loss, of_gradient = TOLERANCE[dtype]
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == dtype
    error = (loss.double() - expected).abs() / expected.abs().clamp(min=1)
    assert error.max() <= of_loss
    # By way of the formula 1 - p is rounded, as in F.cross_entropy.
    least = 1e-4 if way in BY_KERNEL else 1
    if way not in BY_KERNEL or (weight is not None and options["label_smoothing"]):
        of_loss, of_gradient = 4 * of_loss, 4 * of_gradient
    largest = expected_gradient.abs().max(1).values.clamp(min=least)
    error = (gradient.double() - expected_gradient).abs().max(1).values / largest
    assert error.max() <= of_gradient


def test_every_way_meets_the_literal_formula(request):
    settings(
        max_examples=max(1, request.config.getoption("--loss-rows") // ROWS),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(
        given(
            st.sampled_from(list(TOLERANCE)),
            st.sampled_from(list(LAYOUTS)),
            st.sampled_from(["mean", "sum", "none"]),
            st.sampled_from(WAYS),
            OPTIONS,
            st.integers(1, 40) | st.sampled_from([255, 256, 257, 600]),
            st.sampled_from([0, 0.3, 1]),
            st.booleans(),
            st.integers(0, 2**32),
        )(check)
    )()


def test_a_wrong_gradient_would_be_noticed():
    def slightly_wrong(function, logits, factor):
        loss, gradient = backward(function, logits, factor)
        return loss, gradient * 1.00001

    options = {"log_end": 0.5, "bonus_start": 0}
    check(torch.float32, "rows", "sum", backward, options, 5, 0, False, 0)
    with pytest.raises(AssertionError):
        check(torch.float32, "rows", "sum", slightly_wrong, options, 5, 0, False, 0)
