"""The kernels as operations of PyTorch: whatever may be done with F.cross_entropy, may be done."""

import pytest
import torch
import torch.nn.functional as F
from conftest import DEVICE
from formula import random_case
from old_torch import TELLS_OF_PASSES, needs_half

from el_fairseq import EncouragingLoss, encouraging_loss, linear_encouraging_loss
from el_fairseq.ops import function

needs_torch_2 = pytest.mark.skipif(not hasattr(torch, "func"), reason="needs torch 2.0")


def case(count=9, classes=13, dtype=torch.float64):
    logits, target = random_case(count, classes, dtype)
    target[1] = -100
    return logits.requires_grad_(), target


def gradient(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


@pytest.mark.skipif(not hasattr(torch.library, "custom_op"), reason="needs torch 2.4")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_compiles_into_one_graph_with_the_same_loss_and_gradient(reduction):
    def double_loss(logits, target):
        loss = encouraging_loss(logits * 2, target, label_smoothing=0.1, reduction=reduction)
        return loss.sum() * 3

    logits, target = (each.to(DEVICE) for each in case(dtype=torch.float32))
    backend = "aot_eager" if DEVICE == "cpu" else "inductor"
    compiled = torch.compile(double_loss, backend=backend, fullgraph=True)
    loss, expected = compiled(logits, target), double_loss(logits, target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, logits), gradient(expected, logits))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_loss_can_be_saved_and_run_on_other_logits(tmp_path):
    logits, target = case()
    logits = logits.detach()
    traced = torch.jit.trace(lambda x, y: encouraging_loss(x, y), (logits, target))
    traced.save(str(tmp_path / "loss.pt"))
    other, target = logits.flip(0).requires_grad_(), target.flip(0)
    value = torch.jit.load(str(tmp_path / "loss.pt"))(other, target)
    expected = encouraging_loss(other, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, other) for v in (value, expected)))


@needs_torch_2
def test_fake_and_meta_tensors_have_a_loss_with_shape_and_dtype():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(4, 5, dtype=torch.bfloat16, requires_grad=True)
        value = encouraging_loss(fake, torch.zeros(4, dtype=torch.int64))
        (gradient,) = torch.autograd.grad(value, fake)
    meta = torch.zeros(4, 5, device="meta")
    losses = encouraging_loss(
        meta, torch.zeros(4, dtype=torch.int64, device="meta"), reduction="none"
    )
    assert (value.shape, value.dtype) == ((), torch.float32)
    assert (gradient.shape, gradient.dtype) == (fake.shape, fake.dtype)
    assert (losses.shape, losses.device.type) == ((4,), "meta")


@needs_torch_2
def test_the_default_device_is_not_where_the_loss_is_computed():
    logits, target = case()
    weight = torch.ones(13)
    torch.set_default_device("meta")
    try:
        results = [encouraging_loss(logits, target, weight=weight) for weight in (None, weight)]
        fused = linear_encouraging_loss(logits, logits, target.clamp(max=8), reduction="sum")
    finally:
        torch.set_default_device(None)
    assert all(result.device.type == "cpu" for result in (*results, fused))


def test_under_autocast_it_takes_what_a_projection_gives_and_returns_float32():
    logits, target = case(dtype=torch.float32)
    hidden, weight = torch.randn(9, 4, requires_grad=True), torch.randn(13, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = F.linear(hidden, weight)
        assert projected.dtype == torch.bfloat16
        loss = encouraging_loss(projected, target)
        assert encouraging_loss(logits, target).dtype == torch.float32
        fused = linear_encouraging_loss(hidden, weight, target)
    assert loss.dtype == fused.dtype == torch.float32
    torch.testing.assert_close(fused, loss, rtol=1e-2, atol=1e-2)
    for actual, expected in zip(gradient(fused, hidden, weight), gradient(loss, hidden, weight)):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=5e-2, atol=5e-2)


def test_a_second_pass_without_keeping_the_graph_is_refused_in_pytorchs_words():
    logits, target = case()
    loss = encouraging_loss(logits, target)
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_second_derivatives_pass_gradgradcheck():
    logits, target = case(4, 5)
    weight = torch.rand(5, dtype=torch.float64)
    options = {"log_end": 0.3, "label_smoothing": 0.2, "weight": weight, "reduction": "none"}
    assert torch.autograd.gradgradcheck(lambda x: encouraging_loss(x, target, **options), logits)


def test_the_fused_projection_has_second_derivatives_too():
    logits, target = case(4, 5)
    weight = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for value in (
        linear_encouraging_loss(logits, weight, target),
        encouraging_loss(F.linear(logits, weight), target),
    ):
        (once,) = torch.autograd.grad(value, weight, create_graph=True)
        results.append(torch.autograd.grad(once.square().sum(), (logits, weight)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("log_end", [0.9999, 1.0])
def test_a_gradient_to_be_differentiated_again_is_exact_where_the_bonus_is_steep(log_end):
    logits, _ = random_case(200, 10, torch.float32)
    logits, target = 2 * logits, logits.argmax(1)

    def gradient(logits, **more):
        logits = logits.clone().requires_grad_()
        loss = encouraging_loss(logits, target, log_end=log_end, reduction="sum")
        return torch.autograd.grad(loss, logits, **more)[0].detach()

    exact = gradient(logits.double())
    assert (gradient(logits, create_graph=True) - exact).abs().max() < 1e-6


def test_in_place_the_gradient_takes_the_logits_memory_which_must_not_be_a_leafs():
    leaf, target = case()
    with pytest.raises(ValueError, match="inplace_backward is True for logits that are a leaf"):
        encouraging_loss(leaf, target, inplace_backward=True)
    with torch.no_grad():  # no gradient, nothing to write
        encouraging_loss(leaf, target, inplace_backward=True)
    logits = leaf * 1
    place = logits.data_ptr()
    (taken,) = gradient(EncouragingLoss(inplace_backward=True)(logits, target), logits)
    assert (taken.data_ptr() == place) == TELLS_OF_PASSES
    assert torch.equal(taken, *gradient(encouraging_loss(leaf, target), leaf))


def test_a_gradient_in_the_logits_place_is_not_differentiated_again():
    leaf, target = case()
    loss = encouraging_loss(leaf * 1, target, inplace_backward=True)
    with pytest.raises(RuntimeError, match="overwritten"):
        torch.autograd.grad(loss, leaf, create_graph=True)


def test_logits_may_be_changed_after_the_loss_as_after_cross_entropy():
    leaf, target = case()
    expected = gradient(encouraging_loss(leaf, target), leaf)
    logits = leaf * 1
    loss = encouraging_loss(logits, target)
    with torch.no_grad():
        logits.fill_(7)
    torch.testing.assert_close(gradient(loss, leaf), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_an_operation_that_saved_logits_given_away_is_refused_by_autograd(dtype):
    if dtype == torch.float16 and not TELLS_OF_PASSES:
        pytest.skip("float16, whose gradient waits for the backward pass, is not written in place")
    leaf, target = case(dtype=dtype)
    logits = leaf.exp()  # its backward pass reads its result
    loss = encouraging_loss(logits, target, inplace_backward=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_gradients_that_a_mean_over_many_rows_makes_small(dtype):
    logits, target = case(4096, 32, torch.float32)
    half = logits.detach().to(dtype).requires_grad_()
    (encouraging_loss(half, target, label_smoothing=0.1) * 2.0**15).backward()
    (expected,) = gradient(
        encouraging_loss(half.float(), target, label_smoothing=0.1) * 2.0**15, half
    )
    torch.testing.assert_close(half.grad, expected, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(
    "needing",
    [["hidden", "weight", "bias"], ["hidden", "weight"], ["hidden"], ["weight"], ["bias"]],
)
@pytest.mark.parametrize("rows_at_once", [1, 32, 100])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_fused_projection_equals_projection_and_loss_in_the_gradients_asked_for(
    monkeypatch, needing, rows_at_once, reduction
):
    monkeypatch.setattr(function, "BLOCK", 700 * rows_at_once)
    _, target = case(40, 700)
    shapes = {"hidden": (40, 4), "weight": (700, 4), "bias": (700,)}
    tensors = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    asked = [tensors[name].requires_grad_() for name in needing]
    if needing == ["hidden", "weight"]:
        tensors["bias"] = None
    options = {"label_smoothing": 0.1, "reduction": reduction, "log_end": 0.75}
    loss = linear_encouraging_loss(**tensors, target=target, **options) * 2
    expected = encouraging_loss(F.linear(*tensors.values()), target, **options) * 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, *asked), gradient(expected, *asked))


@needs_half
def test_the_fused_projection_in_half_precision_overflows_no_sooner_than_the_unfused_one():
    generator = torch.Generator().manual_seed(0)
    shares = 1 / torch.arange(1, 65).double() ** 1.3  # Zipf's law: a class has hundreds of rows
    target = torch.multinomial(shares, 1024, replacement=True, generator=generator)
    tensors = [
        torch.randn(1024, 8, generator=generator) + 1,
        torch.randn(64, 8, generator=generator),
    ]
    tensors = [tensor.half().requires_grad_() for tensor in tensors]
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    options = {"label_smoothing": 0.1, "reduction": "sum"}
    exact = gradient(encouraging_loss(F.linear(*wide), target, **options), *wide)
    assert exact[1].abs().max() * 1024 > 65504
    fused = gradient(linear_encouraging_loss(*tensors, target, **options) * 8, *tensors)
    unfused = gradient(encouraging_loss(F.linear(*tensors), target, **options) * 8, *tensors)
    for one, other, true in zip(fused, unfused, exact):
        assert torch.isfinite(one).all()
        error, others_error = ((each / 8 - true).abs().max() for each in (one, other))
        assert error <= 1.01 * others_error
