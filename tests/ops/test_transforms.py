"""What PyTorch can do with functions, and with tensors that only stand for others."""

import pytest
import torch
import torch.nn.functional as F
from formula import literal_losses, random_case

pytest.importorskip("torch.func", reason="needs torch 2.0")

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import hessian
from torch.utils.flop_counter import FlopCounterMode

from el_fairseq import encouraging_loss, linear_encouraging_loss

TARGET = torch.tensor([1, 0, 4, 2])


def case():
    return random_case(4, 5)[0], TARGET


def literal(logits):
    return literal_losses(logits, TARGET, label_smoothing=0.1).mean()


def loss(logits):
    return encouraging_loss(logits, TARGET, label_smoothing=0.1)


def test_the_hessian_is_that_of_the_formula():
    logits, _ = case()
    torch.testing.assert_close(hessian(loss)(logits), hessian(literal)(logits))


def test_second_derivatives_pass_gradgradcheck():
    logits, target = case()
    logits.requires_grad_()
    weight = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda x: encouraging_loss(x, target, log_end=0.3, label_smoothing=0.2, weight=weight),
        logits,
    )


def test_the_fused_projection_has_second_derivatives_too():
    logits, target = case()
    weight = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    logits.requires_grad_()
    results = []
    for value in (
        linear_encouraging_loss(logits, weight, target),
        encouraging_loss(F.linear(logits, weight), target),
    ):
        (once,) = torch.autograd.grad(value, weight, create_graph=True)
        results.append(torch.autograd.grad(once.square().sum(), (logits, weight)))
    torch.testing.assert_close(*results)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_loss_can_be_saved_and_run_on_other_logits(tmp_path):
    logits, target = case()
    traced = torch.jit.trace(lambda x, y: encouraging_loss(x, y), (logits, target))
    traced.save(str(tmp_path / "loss.pt"))
    other, target = logits.flip(0).requires_grad_(), target.flip(0)
    value = torch.jit.load(str(tmp_path / "loss.pt"))(other, target)
    expected = encouraging_loss(other, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, other) for v in (value, expected)))


def test_fake_and_meta_tensors_have_a_loss_with_shape_and_dtype():
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


def test_a_mode_that_watches_operations_changes_nothing():
    logits, _ = case()
    with FlopCounterMode(display=False):
        watched = loss(logits)
    torch.testing.assert_close(watched, loss(logits))


def test_the_default_device_is_not_where_the_loss_is_computed():
    logits, target = case()
    weight = torch.ones(5)
    torch.set_default_device("meta")
    try:
        results = [encouraging_loss(logits, target, weight=weight) for weight in (None, weight)]
        fused = linear_encouraging_loss(logits, logits, target.clamp(max=3), reduction="sum")
    finally:
        torch.set_default_device(None)
    assert all(result.device.type == "cpu" for result in (*results, fused))
