"""Every kernel against the literal formula in float64, by every way to it.

``EL_TEST_DEVICE=cuda`` runs them on a GPU; elsewhere Triton's interpreter runs the GPU's.
"""

import importlib.util
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import DEVICE
from formula import literal_losses, loss_and_gradient, random_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from old_torch import MULTIPLIES_HALF

from el_fairseq import encouraging_loss, linear_encouraging_loss
from el_fairseq.ops import function
from el_fairseq.ops.function import loss_of
from el_fairseq.ops.reference import Spec

KERNELS = ["formula", *(["cpu"] if DEVICE == "cpu" else []), "gpu", "gpu, rows in pieces"]
LONG = [255, 256, 257, 600, *([5000, 100_002] if DEVICE == "cuda" else [])]  # rows
# Of the loss, or of the largest entry of a row's gradient; the gradient is rounded to its dtype.
TOLERANCE = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (5e-6, 1e-6),
    torch.bfloat16: (5e-6, 1.1 * 2**-7),  # rounded twice
    torch.float16: (5e-6, 2**-10),
}


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    """Name of the kernel that computes losses, chosen as in a new process."""
    name, _, in_pieces = request.param.partition(", ")
    if name == "gpu" and DEVICE == "cpu" and not importlib.util.find_spec("triton"):
        pytest.skip("Triton is not installed: its wheels are for Linux on x86-64")
    monkeypatch.setitem(function.KERNELS, DEVICE, None if name == "formula" else f".{name}")
    if in_pieces:
        from el_fairseq.ops import gpu

        monkeypatch.setattr(gpu, "lanes_of", lambda classes: 256)
    function._kernel.cache_clear()
    yield name
    function._kernel.cache_clear()


LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.t().contiguous().t(),
    "every other": lambda x: torch.stack([x, x], -1)[..., 0],
    "wide": lambda x: torch.cat([x, x], 1)[:, : x.size(1)],
    "wide, odd offset": lambda x: torch.cat([x[:, :1], x, x[:, 1:]], 1)[:, 1 : 1 + x.size(1)],
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


def tensors(count, classes, ignored, weighted, seed):
    """Logits (N, V) of all kinds, targets, class weights, and a factor for each row."""
    generator = torch.Generator().manual_seed(seed)

    def random(*choices):
        return torch.tensor(choices)[torch.randint(len(choices), (count, 1), generator=generator)]

    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    logits = logits * random(0.0, 1e-3, 1.0, 3.0, 10.0, 100.0, 1e4) + random(0.0, 0.0, 500.0)
    logits = torch.where(random(True, False, False), logits.round(), logits)  # ties
    target = torch.randint(classes, (count,), generator=generator)
    # Targets of probability 1 and 0, to rounding.
    logits.scatter_add_(1, target.unsqueeze(1), random(0.0, 0.0, 5.0, 60.0, -200.0).double())
    logits = logits.clamp(-1e4, 1e4)
    target[torch.rand(count, generator=generator) < ignored] = -100
    target = torch.stack([target, target + 1], 1).to(DEVICE)[:, 0]
    weight = torch.rand(classes, generator=generator).to(DEVICE) if weighted else None
    factors = torch.rand(count, generator=generator, dtype=torch.float64)
    return logits.to(DEVICE), target, weight, factors.to(DEVICE)


def literal(logits, target, options, weight, of_rows, reduction):
    """The reduced loss in float64, and its gradient times ``of_rows`` (or its first entry)."""
    logits = logits.detach().double().requires_grad_()
    weights = torch.ones_like(logits[0]) if weight is None else weight.double()
    loss = literal_losses(logits, target, class_weight=weights, **options)
    if reduction != "none":
        total = (weights[target.clamp(min=0)] * (target != -100)).sum()
        loss = loss.sum() / (total if reduction == "mean" and total else 1)
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
    return loss, torch.func.grad(lambda x: (function(x) * factor(loss)).sum())(logits)


def batched_function(function, logits, factor):
    loss = torch.func.vmap(function)(torch.stack([logits, logits.flip(0)]))[0]
    return loss, functional_grad(function, logits, factor)[1]


def forward_mode(function, logits, factor):
    loss, gradient = backward(function, logits, factor)
    tangent = torch.randn_like(logits, memory_format=torch.contiguous_format)
    primal, directional = torch.func.jvp(function, (logits.contiguous(),), (tangent,))
    expected = (gradient.double() * tangent).sum()
    scale = (gradient.double() * tangent).abs().sum() + 1e-3
    assert ((directional * factor(loss)).sum() - expected).abs() < 0.01 * scale
    return primal, gradient


def projected(function, logits, factor):
    """Through a projection that gives the logits themselves."""
    classes = logits.size(1)
    if classes > 64 or (logits.dtype == torch.float16 and not MULTIPLIES_HALF):
        return backward(function, logits, factor)
    loss = function.projected(logits, torch.eye(classes, device=DEVICE).to(logits.dtype))
    return loss, torch.autograd.grad(loss, logits, factor(loss))[0]


def in_place(function, logits, factor):
    copy = logits * 1
    loss = function(copy, inplace_backward=True)
    return loss, torch.autograd.grad(loss, copy, factor(loss))[0]


BY_KERNEL = [backward, backward_twice, projected, in_place]
BY_FORMULA = [differentiable_backward]
if hasattr(torch, "func"):  # from torch 2.0 on
    BY_FORMULA += [batched_backward, functional_grad, batched_function, forward_mode]


def check(kernel, count, dtype, layout, reduction, way, options, classes, ignored, weighted, seed):
    logits, target, weight, of_rows = tensors(count, classes, ignored, weighted, seed)
    options = {**options, "bonus_start": options["bonus_start"] * options["log_end"]}
    logits = LAYOUTS[layout](logits.to(dtype))
    target = target[:1].expand(count) if layout == "one row" else target

    def function(logits, **more):
        return encouraging_loss(
            logits, target, weight=weight, reduction=reduction, **options, **more
        )

    function.projected = lambda hidden, matrix: linear_encouraging_loss(
        hidden, matrix, target, class_weight=weight, reduction=reduction, **options
    )

    def factor(loss):
        return of_rows.to(loss.dtype) if loss.dim() else of_rows[0].to(loss.dtype)

    before = logits.clone()
    alone = function(logits)  # without a gradient
    loss, gradient = way(function, logits.requires_grad_(), factor)
    assert torch.equal(logits.detach(), before)
    expected, expected_gradient = literal(logits, target, options, weight, of_rows, reduction)
    of_loss, of_gradient = TOLERANCE[dtype]
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == dtype
    # By way of the formula 1 - p is rounded, as in F.cross_entropy.
    by_formula = weighted and options["label_smoothing"]
    is_exact = kernel == "cpu" and way in BY_KERNEL and not by_formula
    if not is_exact:
        of_loss, of_gradient = 4 * of_loss, 4 * of_gradient
    for value in (loss, alone):
        error = (value.double() - expected).abs() / expected.abs().clamp(min=1)
        assert error.max() <= of_loss
    largest = expected_gradient.abs().max(1).values.clamp(min=1e-4 if is_exact else 1)
    error = (gradient.double() - expected_gradient).abs().max(1).values / largest
    assert error.max() <= of_gradient


def test_every_way_meets_the_literal_formula(kernel):
    is_interpreted = kernel == "gpu" and DEVICE == "cpu"
    settings(
        max_examples=60 if is_interpreted else 150,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(
        given(
            st.just(kernel),
            st.just(5 if is_interpreted else 64),
            st.sampled_from(list(TOLERANCE)),
            st.sampled_from(list(LAYOUTS)),
            st.sampled_from(["mean", "sum", "none"]),
            st.sampled_from([*BY_KERNEL, *BY_FORMULA]),
            OPTIONS,
            st.integers(1, 40) | st.sampled_from(LONG),
            st.sampled_from([0, 0.3, 1]),
            st.booleans(),
            st.integers(0, 2**32),
        )(check)
    )()


ARGMAX = [
    *([-1.0, -2.0, -3.0], [-0.0, 0.0, -1.0], [0.0, -0.0, -1.0], [2.0, 2.0, 1.0]),
    [-torch.inf, -2.0, -torch.inf],
]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_row_is_correct_where_the_targets_logit_is_the_argmax(kernel, dtype):
    logits = torch.tensor(ARGMAX, dtype=dtype, device=DEVICE)
    logits = torch.cat([logits, logits.new_full((5, 300), -9), logits], 1)  # in several pieces
    for target in range(3):
        targets = torch.full((len(ARGMAX),), target, device=DEVICE)
        _, _, correct = loss_of([logits], targets, Spec(label_smoothing=0.1))
        assert torch.equal(correct, logits.argmax(1) == targets)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_an_infinite_logit_is_seen_in_loss_and_gradient_as_in_cross_entropy(kernel, dtype, value):
    logits, target = (each.to(DEVICE) for each in random_case(classes=300, dtype=dtype))
    logits[2, 4] = value
    options = {"label_smoothing": 0.1, "reduction": "none"}
    loss, gradient = loss_and_gradient(lambda x: encouraging_loss(x, target, **options), logits)
    assert loss.isnan()
    assert gradient.isnan().all(1).tolist() == [row == 2 for row in range(7)]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("log_end", [0.05, 0.5, 1.0])
def test_masked_classes_are_finite_without_smoothing_and_infinite_but_not_nan_with_it(
    kernel, label_smoothing, log_end
):
    logits, target = (each.to(DEVICE) for each in random_case(40, 300, torch.float32))
    logits = logits.masked_fill(logits < F.one_hot(target, 300) * -100, -torch.inf)
    losses, gradient = loss_and_gradient(
        lambda x: encouraging_loss(
            x, target, log_end=log_end, label_smoothing=label_smoothing, reduction="sum"
        ),
        logits,
    )
    assert losses == torch.inf if label_smoothing else losses.isfinite()
    assert gradient.isfinite().all()


def test_a_target_of_probability_zero_costs_infinity_as_in_cross_entropy(kernel):
    logits = torch.tensor([[0.0, -torch.inf, 1.0]], device=DEVICE)
    target = torch.tensor([1], device=DEVICE)
    loss, gradient = loss_and_gradient(lambda x: encouraging_loss(x, target), logits)
    assert loss == torch.inf
    torch.testing.assert_close(gradient, logits.softmax(-1) - F.one_hot(target, 3))


def test_a_large_weight_of_the_bonus_does_not_overflow_in_half_precision_before_its_time(kernel):
    logits, target = (each.to(DEVICE) for each in random_case(dtype=torch.float16))
    (_, gradient), (_, expected) = (
        loss_and_gradient(
            lambda x: encouraging_loss(x, target, bonus_weight=1e4, reduction="none") / 1e4, each
        )
        for each in (logits, logits.double())
    )
    torch.testing.assert_close(gradient.double(), expected, rtol=2e-3, atol=1e-6)


def test_no_rows_cost_nothing(kernel):
    logits = torch.zeros(0, 5, device=DEVICE, requires_grad=True)
    weight = torch.ones(3, 5, device=DEVICE, requires_grad=True)
    target = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    loss = encouraging_loss(logits, target) + linear_encouraging_loss(logits, weight, target)
    assert loss == 0
    of_logits, of_weight = torch.autograd.grad(loss, (logits, weight))
    assert of_logits.shape == (0, 5)
    assert not of_weight.any()


def fail(*_, **__):
    raise RuntimeError("a fault: Python.h is missing\nmore lines")


@pytest.mark.parametrize("kernel", KERNELS[1:-1], indirect=True)
@pytest.mark.parametrize("fault", ["no module", "row_losses", "count"])
def test_where_the_kernel_fails_the_formula_serves_and_says_once_that_it_is_slower(
    kernel, monkeypatch, fault
):
    logits, target = (each.to(DEVICE) for each in random_case(dtype=torch.float32))
    expected = loss_and_gradient(lambda x: literal_losses(x, target).mean(), logits)
    if fault == "no module":
        monkeypatch.setitem(sys.modules, f"el_fairseq.ops.{kernel}", None)
    else:
        monkeypatch.setattr(f"el_fairseq.ops.{kernel}.{fault}", fail)
    with pytest.warns(UserWarning, match=f"slower than it could be on {DEVICE}") as caught:
        for _ in range(2):
            actual = loss_and_gradient(lambda x: encouraging_loss(x, target), logits)
        torch.testing.assert_close(actual, expected, check_dtype=False, rtol=1e-5, atol=1e-6)
    (message,) = {str(each.message) for each in caught}
    assert fault == "no module" or message.endswith("(RuntimeError: a fault: Python.h is missing)")


def test_a_gpus_kernel_multiplies_in_place(monkeypatch):
    gpu = pytest.importorskip("el_fairseq.ops.gpu", reason="Triton is for Linux on x86-64")
    monkeypatch.setattr(gpu, "PROGRAMS", 2)
    values = torch.randn(5, 4099, device=DEVICE).half()
    expected = (values.float() * 0.3).half()
    assert gpu.multiply(values, torch.tensor(1.0, device=DEVICE)) is values
    gpu.multiply(values, torch.tensor(0.3, device=DEVICE))
    torch.testing.assert_close(values, expected, rtol=0, atol=0)
