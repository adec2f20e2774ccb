"""The kernels for GPUs, run by Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: its wheels are for Linux on x86-64")

from correctness import check_correctness
from formula import literal_losses, loss_and_gradient
from hypothesis import given, settings
from test_loss import LOG_ENDS, cases, masked_literal, random_case, relative_error

from el_fairseq import encouraging_loss
from el_fairseq.ops import formula, gpu, rows
from el_fairseq.ops.bonus import Bonus, Spec

SPEC = Spec(Bonus(), 0.1, -100)


def spec(options):
    bonus = Bonus(options["log_end"], options["bonus_start"], options["bonus_weight"])
    return Spec(bonus, options["label_smoothing"], -100)


@settings(max_examples=80, deadline=None)
@given(cases())
def test_the_kernel_stays_within_1e_5_of_the_float64_formula(case):
    logits, target, options = case
    expected, expected_gradient = loss_and_gradient(
        lambda x: masked_literal(x, target, options), logits.double()
    )
    gradient = torch.empty_like(logits)
    scale = torch.full((len(target),), 0.5)
    loss, _, _ = gpu.row_losses(logits, target, spec(options), scale, gradient)
    assert torch.isfinite(loss).all()
    assert relative_error(loss.sum(), expected) < 1e-5
    assert relative_error(gradient * 2, expected_gradient) < 1e-5


def both(logits, target, options, scale, gradient=None, gradient_of_formula=None):
    """What the kernel and the formula return."""
    scale = scale.expand(len(target))
    actual = gpu.row_losses(logits, target, options, scale, gradient)
    expected = formula.row_losses(logits, target, options, scale, gradient_of_formula)
    return (*actual, gradient), (*expected, gradient_of_formula)


def check(logits, target, options, scale, **tolerance):
    gradients = [torch.empty_like(logits, memory_format=torch.contiguous_format) for _ in "12"]
    torch.testing.assert_close(*both(logits, target, options, scale, *gradients), **tolerance)


@pytest.mark.parametrize("log_end", LOG_ENDS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_kernel_returns_what_the_formula_returns(log_end, label_smoothing):
    logits, target = random_case(rows=9, classes=41, dtype=torch.float32)
    target[3] = -100
    options = Spec(Bonus(log_end, log_end / 3, 0.7), label_smoothing, -100)
    check(logits, target, options, torch.tensor([0.25]), rtol=1e-5, atol=1e-6)


def test_rows_longer_than_a_program_is_wide_are_worked_on_in_pieces(monkeypatch):
    monkeypatch.setattr(gpu, "lanes_of", lambda classes: 16)
    logits, target = random_case(rows=5, classes=100, dtype=torch.float32)
    check(logits, target, SPEC, torch.tensor([1.0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, target = random_case(rows=5, classes=30, dtype=dtype)
    check(logits, target, SPEC, torch.tensor([1.0]), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.t().contiguous().t(),
        lambda x: x.repeat(1, 2)[:, :30],
        lambda x: x[::2],
        lambda x: x[:1].expand(5, 30),
        lambda x: x[:, :1].expand(5, 30),
    ],
)
def test_logits_may_have_any_strides(view):
    logits, target = random_case(rows=5, classes=30, dtype=torch.float32)
    logits = view(logits)
    check(logits, target[: len(logits)], SPEC, torch.tensor([0.5]))


def test_targets_and_scales_may_have_any_strides():
    logits, target = random_case(rows=5, classes=30, dtype=torch.float32)
    scale = torch.rand(5)
    for view in (
        lambda x: torch.stack([x, x + 1], 1)[:, 0],
        lambda x: x.repeat_interleave(2)[::2],
        lambda x: x[:1].expand(5),
    ):
        check(logits, view(target), SPEC, view(scale))


def test_the_gradient_may_take_the_logits_place():
    logits, target = random_case(rows=5, classes=30, dtype=torch.float32)
    gradient = torch.empty_like(logits)
    formula.row_losses(logits, target, SPEC, torch.full((5,), 0.5), gradient)
    gpu.row_losses(logits, target, SPEC, torch.full((5,), 0.5), logits)
    torch.testing.assert_close(logits, gradient)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_correct_where_the_targets_logit_is_the_argmax(dtype):
    check_correctness(gpu, dtype)


def test_infinite_logits_make_the_row_nan():
    logits, target = random_case(rows=3, classes=30, dtype=torch.float16)
    logits[1, 4] = torch.inf
    gradient = torch.empty_like(logits)
    loss, _, _ = gpu.row_losses(logits, target, SPEC, torch.full((3,), 0.5), gradient)
    assert loss.isnan().tolist() == gradient.isnan().all(1).tolist() == [False, True, False]


def test_options_may_be_whole_numbers():
    logits, target = random_case(rows=3, classes=30, dtype=torch.float32)
    check(logits, target, Spec(Bonus(1, 0, 1), 0, -100), torch.tensor([0.5]))


def test_without_a_gradient_and_without_rows_there_is_nothing_to_write():
    logits, target = random_case(rows=5, classes=30, dtype=torch.float32)
    before = logits.clone()
    torch.testing.assert_close(*both(logits, target, SPEC, torch.ones(1)))
    assert torch.equal(logits, before)
    assert gpu.row_losses(logits[:0], target[:0], SPEC, torch.ones(0))[0].numel() == 0


@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_targets_are_counted_and_checked_without_waiting(ignore_index):
    target = torch.tensor([3, 1, 2, ignore_index] * 700)[::2]
    count = (target != ignore_index).sum()
    assert gpu.count(target, 4, ignore_index).item() == count
    assert gpu.count(torch.full((3,), ignore_index), 4, ignore_index).item() == 1
    for wrong in (-1, 4):
        with pytest.raises(RuntimeError):
            gpu.count(torch.cat([target, torch.tensor([wrong])]), 4, ignore_index)


def test_values_are_multiplied_in_place(monkeypatch):
    monkeypatch.setattr(gpu, "PROGRAMS", 2)
    values = torch.randn(5, 4099).half()
    expected = (values.float() * 0.3).half()
    assert gpu.multiply(values, torch.tensor(1.0)) is values
    gpu.multiply(values, torch.tensor(0.3))
    torch.testing.assert_close(values, expected, rtol=0, atol=0)


def test_a_program_is_as_wide_as_a_row_that_can_be_held_in_registers():
    assert gpu.lanes_of(2) == 16
    assert gpu.lanes_of(1000) == 1024
    assert gpu.lanes_of(8192) == 8192
    assert gpu.lanes_of(8193) == gpu.lanes_of(256_000) == 2048


@pytest.fixture
def instead_of_the_cpus(monkeypatch):
    monkeypatch.setitem(rows.KERNELS, "cpu", ".gpu")
    rows._kernel.cache_clear()
    rows._warn_once.cache_clear()
    yield
    rows._kernel.cache_clear()
    rows._warn_once.cache_clear()


@pytest.mark.parametrize("fault", [None, "a launcher that does not compile"])
def test_the_kernel_serves_and_where_it_fails_at_first_the_formula(
    instead_of_the_cpus, monkeypatch, recwarn, fault
):
    logits, target = random_case(rows=5, classes=30, dtype=torch.float32)
    launched = []

    class Kernel(dict):
        def __missing__(self, grid):
            launched.append(grid)
            if fault:
                raise RuntimeError(f"{fault}: Python.h is missing\nmore lines")
            return original[grid]

    original = gpu._row_kernel
    monkeypatch.setattr(gpu, "_row_kernel", Kernel())
    actual = loss_and_gradient(lambda x: encouraging_loss(x, target, reduction="sum"), logits)
    expected = loss_and_gradient(lambda x: literal_losses(x, target), logits)
    torch.testing.assert_close(actual, expected, check_dtype=False, rtol=1e-5, atol=1e-5)
    said = [str(each.message) for each in recwarn if each.category is UserWarning]
    if fault:
        assert launched == [(1,)]  # nothing but the one row that it is tried on
        (message,) = said
        assert message.endswith(f"(RuntimeError: {fault}: Python.h is missing)")
    else:
        assert launched == [(1,), (5,)]
        assert not said
