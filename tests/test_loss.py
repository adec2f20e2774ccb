"""The encouraging loss against golden values, the literal formula and F.cross_entropy."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, run
from formula import literal_losses, loss_and_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from el_fairseq import EncouragingLoss, encouraging_loss

GOLDEN = json.loads((Path(__file__).parent / "golden" / "encouraging_loss.json").read_text())
LOG_ENDS = [0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0]


def random_case(rows=7, classes=11, scale=3.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"LE{case['log_end']}")
def test_golden_values_of_the_authors_criterion_are_met(case):
    logits = torch.tensor(case["logits"], dtype=torch.float64, requires_grad=True)
    loss = encouraging_loss(
        logits,
        torch.tensor(case["target"]),
        log_end=case["log_end"],
        label_smoothing=case["label_smoothing_over_V"],
        ignore_index=case["pad"],
        reduction="sum",
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-9, abs=1e-9)
    expected = torch.tensor(case["grad"], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 5, 2), (2, 5, 3, 2), (0, 5), (3, 5, 0)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_without_the_bonus_it_is_cross_entropy(shape, reduction, label_smoothing):
    logits = torch.randn(shape, dtype=torch.float64)
    size = torch.Size([]) if len(shape) == 1 else torch.Size([shape[0], *shape[2:]])
    target = torch.randint(3, size)
    if target.numel() > 1:
        target.view(-1)[1] = 3
    options = {
        "label_smoothing": label_smoothing,
        "ignore_index": 3,
        "reduction": reduction,
    }
    actual = loss_and_gradient(
        lambda x: encouraging_loss(x, target, bonus_weight=0.0, **options), logits
    )
    expected = loss_and_gradient(lambda x: F.cross_entropy(x, target, **options), logits)
    if target.numel() == 0 and reduction == "mean":  # F.cross_entropy says NaN: 0 / 0
        assert actual[0] == 0
    else:
        torch.testing.assert_close(actual, expected)


@st.composite
def cases(draw):
    """Logits in float32 with everything in them that is allowed to occur."""
    rows, classes = draw(st.integers(1, 6)), draw(st.integers(2, 40))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 10.0, 100.0, 1e4]))
    seed = draw(st.integers(0, 10_000))
    logits, target = random_case(rows, classes, scale, seed, torch.float32)
    logits = logits.clamp(-1e4, 1e4) + draw(st.sampled_from([0.0, 0.0, 1e3]))
    if draw(st.booleans()):  # ties
        logits = logits.round()
    if draw(st.booleans()):  # a target with probability 1, to rounding
        logits[0, target[0]] = logits[0].max() + 40
    if draw(st.booleans()):  # a target with probability 0, to rounding
        logits[-1, target[-1]] = logits[-1].min() - 200
    if draw(st.booleans()):
        target[draw(st.integers(0, rows - 1)) :] = -100
    options = {
        "log_end": draw(st.sampled_from(LOG_ENDS) | st.floats(0.05, 0.999)),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])),
        "bonus_weight": draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])),
        "bonus_start": 0.0,
    }
    if draw(st.booleans()):
        # Not among the probabilities that ties make: at the jump, rounding decides the side.
        options["bonus_start"] = options["log_end"] * draw(st.sampled_from([0.0317, 0.7071]))
    return logits, target, options


def masked_literal(logits, target, options):
    kept = target != -100
    safe = target.masked_fill(~kept, 0)
    return literal_losses(logits, safe, **options).masked_fill(~kept, 0)


def relative_error(actual, expected):
    return ((actual.double() - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 10_000))
def test_masked_classes_are_finite_without_smoothing_and_infinite_but_not_nan_with_it(case, seed):
    logits, target, options = case
    generator = torch.Generator().manual_seed(seed)
    masked = torch.rand(logits.shape, generator=generator) < 0.3
    masked[torch.arange(len(target)), target.clamp(min=0)] = False
    logits = logits.masked_fill(masked, -torch.inf)
    loss, gradient = loss_and_gradient(
        lambda x: encouraging_loss(x, target, **options, reduction="none"), logits
    )
    cross_entropy = F.cross_entropy(
        logits, target, label_smoothing=options["label_smoothing"], reduction="sum"
    )
    assert torch.isfinite(loss) == torch.isfinite(cross_entropy)
    assert not loss.isnan()
    assert torch.isfinite(gradient).all()


def test_a_target_of_probability_zero_costs_infinity_as_in_cross_entropy():
    logits = torch.tensor([[0.0, -torch.inf, 1.0]])
    loss, gradient = loss_and_gradient(lambda x: encouraging_loss(x, torch.tensor([1])), logits)
    assert loss == torch.inf
    torch.testing.assert_close(gradient, logits.softmax(-1) - torch.tensor([[0.0, 1.0, 0.0]]))


def test_the_module_says_its_options_and_computes_what_the_function_does():
    options = {
        "log_end": 0.75,
        "label_smoothing": 0.1,
        "ignore_index": 2,
        "reduction": "sum",
        "bonus_weight": 0.5,
        "bonus_start": 0.2,
    }
    logits, target = random_case()
    module = EncouragingLoss(**options)
    assert isinstance(module, nn.Module)
    assert module(logits, target) == encouraging_loss(logits, target, **options)
    for name, value in options.items():
        assert f"{name}={value!r}" in repr(module)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("log_end", 0, "log_end is 0, expected a number in (0, 1]"),
        ("log_end", 1.5, "log_end is 1.5, expected a number in (0, 1]"),
        ("log_end", float("nan"), "log_end is nan"),
        ("label_smoothing", 1.0, "label_smoothing is 1.0, expected a number in [0, 1)"),
        ("label_smoothing", -0.1, "label_smoothing is -0.1"),
        ("bonus_weight", -1, "bonus_weight is -1, expected 0"),
        ("bonus_weight", float("inf"), "bonus_weight is inf"),
        ("bonus_start", 0.5, "bonus_start is 0.5, expected 0"),
        ("bonus_start", -0.1, "bonus_start is -0.1"),
        ("reduction", "avg", "reduction is 'avg', expected 'mean', 'sum' or 'none'"),
        ("reduction", None, "reduction is None"),
        ("base_loss", ["ce"], "base_loss is ['ce'], expected 'ce' or 'mse'"),
        ("log_end", None, "log_end is None, expected a number in (0, 1]"),
        ("log_end", "0.5", "log_end is '0.5', expected a number"),
        ("log_end", True, "log_end is True, expected a number"),
        ("log_end", [0.5], "log_end is [0.5], expected a number"),
        ("label_smoothing", None, "label_smoothing is None, expected a number in [0, 1)"),
        ("bonus_start", "0", "bonus_start is '0', expected a number"),
        ("bonus_weight", torch.ones(2), "bonus_weight is tensor([1., 1.]), expected a number"),
        ("ignore_index", -1.5, "ignore_index is -1.5, expected a whole number"),
        ("inplace_backward", "no", "inplace_backward is 'no', expected True or False"),
        ("weight", [1.0] * 11, "weight is list, expected a tensor"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(option, value, message):
    logits, target = random_case()
    for call in (lambda **options: encouraging_loss(logits, target, **options), EncouragingLoss):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(**{option: value})
        assert message in str(caught.value)


def test_numbers_of_numpy_are_options():
    logits, target = random_case()
    options = {"log_end": np.float32(0.5), "ignore_index": np.int64(-100), "bonus_weight": 1}
    assert encouraging_loss(logits, target, **options) == encouraging_loss(logits, target)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(3, 5, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, 5), torch.zeros(3), "target is torch.float32, expected int64"),
        (torch.zeros(3, 5), torch.zeros(3, 5), "take F.cross_entropy, which has no bonus, or"),
        (torch.zeros(3, 5), torch.zeros(3, dtype=torch.int32), "convert it by target.long()"),
        (torch.zeros(3, 5), torch.zeros(4, dtype=torch.int64), "shape (4,), expected (3,)"),
        (torch.zeros(3, 5, 2), torch.zeros(3, 5).long(), "pass logits.flatten(0, 1) and target.fl"),
        (torch.zeros(3, 4, 2, 5), torch.zeros(3, 4, 2).long(), "logits.flatten(0, 2) and"),
        (torch.zeros(6, 5), torch.zeros(2, 3).long(), "expected (6,) for logits of shape (6, 5): "),
        ([[0.0, 1.0]], torch.zeros(1).long(), "logits is list, expected a tensor"),
        (torch.zeros(1, 5), [0], "target is list, expected a tensor"),
        (torch.zeros(()), torch.zeros((), dtype=torch.int64), "logits have no dimensions"),
        (torch.zeros(2, 5), torch.tensor([0, 5]), "target holds class 5, expected 0 to 4"),
        (torch.zeros(2, 5), torch.tensor([-1, 0]), "target holds class -1, expected 0 to 4"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_in_words(logits, target, message):
    for base_loss in ("ce", "mse"):
        with pytest.raises((TypeError, ValueError)) as caught:
            encouraging_loss(logits, target, base_loss=base_loss)
        assert message in str(caught.value)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_weights_without_the_bonus_are_those_of_cross_entropy(label_smoothing, reduction):
    logits, target = random_case(rows=20)
    target[3] = -100
    options = {
        "weight": torch.rand(11, dtype=torch.float64),
        "label_smoothing": label_smoothing,
        "reduction": reduction,
    }
    module = EncouragingLoss(bonus_weight=0.0, **options)
    actual = loss_and_gradient(lambda x: module(x, target), logits)
    expected = loss_and_gradient(lambda x: F.cross_entropy(x, target, **options), logits)
    torch.testing.assert_close(actual, expected)
    assert "weight" in module.state_dict()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("base_loss", ["ce", "mse"])
@pytest.mark.parametrize("weight", [None, torch.ones(11, dtype=torch.float64)])
def test_an_ignored_row_counts_for_nothing_whatever_its_logits(value, base_loss, weight):
    logits, target = random_case()
    target[2] = -100
    logits[2] = 0
    options = {"base_loss": base_loss, "weight": weight}
    expected = loss_and_gradient(lambda x: encouraging_loss(x, target, **options), logits)
    logits[2] = value
    actual = loss_and_gradient(lambda x: encouraging_loss(x, target, **options), logits)
    assert all(map(torch.equal, actual, expected))
    assert not actual[1][2].any()


@pytest.mark.parametrize(
    ("options", "lowest"),
    [
        ({}, -1.6931),
        ({"log_end": 0.75, "bonus_weight": 2.0}, -4.7726),
        ({"log_end": 1.0}, -11.5129),
        ({"base_loss": "mse"}, -1.0),
    ],
)
def test_the_lower_bound_of_the_loss_is_the_documented_one(options, lowest):
    logits = torch.tensor([[100.0, 0.0, 0.0]])
    loss = encouraging_loss(logits, torch.tensor([0]), **options)
    assert loss.item() == pytest.approx(lowest, abs=1e-4)


def test_class_weights_of_another_number_of_classes_are_refused():
    logits, target = random_case()
    with pytest.raises(ValueError, match=r"weight has shape \(3,\), expected \(11,\)"):
        encouraging_loss(logits, target, weight=torch.ones(3))


def test_class_weights_count_in_the_mean_squared_error_too():
    logits, target = random_case()
    weight = torch.rand(11, dtype=torch.float64)
    losses = encouraging_loss(logits, target, base_loss="mse", reduction="none")
    expected = (losses * weight[target]).sum() / weight[target].sum()
    torch.testing.assert_close(
        encouraging_loss(logits, target, base_loss="mse", weight=weight), expected
    )


def test_targets_may_be_uint8():
    logits, target = random_case()
    assert encouraging_loss(logits, target.byte()) == encouraging_loss(logits, target)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"base_loss": "mse"}])
def test_without_classes_all_targets_are_ignored(rows, options):
    logits = torch.zeros(rows, 0, requires_grad=True)
    target = torch.full((rows,), -100)
    loss = encouraging_loss(logits, target, **options)
    assert loss == 0
    assert torch.autograd.grad(loss, logits)[0].shape == (rows, 0)
    if rows:
        with pytest.raises(ValueError, match="target holds class 0"):
            encouraging_loss(logits, torch.zeros(rows, dtype=torch.int64), **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_an_infinite_logit_is_seen_in_loss_and_gradient_as_in_cross_entropy(dtype, value):
    logits, target = random_case(dtype=dtype)
    logits[2, 4] = value
    loss, gradient = loss_and_gradient(
        lambda x: encouraging_loss(x, target, label_smoothing=0.1, reduction="none"), logits
    )
    assert loss.isnan()
    assert gradient.isnan().all(1).tolist() == [row == 2 for row in range(7)]


def test_a_large_weight_of_the_bonus_does_not_overflow_in_half_precision_before_its_time():
    logits, target = random_case(dtype=torch.float16)
    _, gradient = loss_and_gradient(
        lambda x: encouraging_loss(x, target, bonus_weight=1e4, reduction="none") / 1e4, logits
    )
    _, expected = loss_and_gradient(
        lambda x: encouraging_loss(x, target, bonus_weight=1e4, reduction="none") / 1e4,
        logits.double(),
    )
    torch.testing.assert_close(gradient.double(), expected, rtol=2e-3, atol=1e-6)


def test_half_precisions_mean_squared_error_is_summed_in_float32():
    logits = torch.zeros(300_000, 2, dtype=torch.float16)
    target = torch.zeros(300_000, dtype=torch.int64)
    options = {"base_loss": "mse", "bonus_weight": 0}
    assert encouraging_loss(logits, target, reduction="sum", **options) == 75_000  # over 65,504
    assert encouraging_loss(logits, target, **options) == 0.25


def test_in_place_is_refused_for_leaves_and_saves_the_gradients_memory_otherwise():
    leaf, target = random_case()
    leaf.requires_grad_()
    with pytest.raises(ValueError, match="inplace_backward is True for logits that are a leaf"):
        encouraging_loss(leaf, target, inplace_backward=True)
    (expected,) = torch.autograd.grad(encouraging_loss(leaf, target), leaf)
    logits = leaf * 1
    place = logits.data_ptr()
    (gradient,) = torch.autograd.grad(
        EncouragingLoss(inplace_backward=True)(logits, target), logits
    )
    # Before torch 2.1 nothing tells whether another backward pass will follow.
    assert (gradient.data_ptr() == place) == hasattr(
        torch._C._autograd, "_get_current_graph_task_keep_graph"
    )
    assert torch.equal(gradient, expected)
    with torch.no_grad():  # no gradient, nothing to write
        encouraging_loss(leaf, target, inplace_backward=True)


def test_mypy_passes_a_typed_caller_and_finds_a_wrong_option(tmp_path):
    pytest.importorskip("mypy")
    caller = tmp_path / "caller.py"
    caller.write_text(
        "import torch\n"
        "from el_fairseq import EncouragingLoss, encouraging_loss, linear_encouraging_loss\n"
        "def step(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:\n"
        "    weight = torch.ones(logits.size(-1))\n"
        "    module = EncouragingLoss(log_end=0.75, weight=weight)\n"
        "    hidden = linear_encouraging_loss(logits, weight.diag(), target)\n"
        "    return encouraging_loss(logits, target, inplace_backward=True) + hidden\n"
        "wrong = EncouragingLoss(reduction='avg')\n"
    )
    # Without torch's own types, whose check takes longer than all other tests here.
    command = ["mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path)]
    command += ["--no-site-packages", "--ignore-missing-imports", str(caller)]
    result = run([sys.executable, "-m", *command], env={"MYPYPATH": str(ROOT)})
    assert result.returncode == 1
    error, count = result.stdout.splitlines()
    assert "caller.py:8: error" in error and "expected \"Literal['mean', 'sum', 'none']\"" in error
    assert count.startswith("Found 1 error")


def test_the_plain_loss_works_where_fairseq_does_not():
    code = (
        "import sys; sys.modules['fairseq'] = None\n"
        "import torch, el_fairseq\n"
        "assert 'numba' not in sys.modules\n"
        "print(el_fairseq.encouraging_loss(torch.zeros(1, 4), torch.tensor([1])).item())\n"
        "try: el_fairseq.EncouragingLossCriterion\n"
        "except ImportError as error: print(error)\n"
    )
    result = run([sys.executable, "-c", code])
    assert result.returncode == 0, result.stderr
    value, explanation = result.stdout.splitlines()
    assert float(value) == pytest.approx(1.0986, abs=1e-4)  # log 4 + log 3/4
    assert "needs fairseq" in explanation
    assert "pip install" in explanation


@pytest.mark.parametrize("log_end", [0.9999, 1.0])
def test_a_gradient_to_be_differentiated_again_is_exact_where_the_bonus_is_steep(log_end):
    torch.manual_seed(0)
    logits = 5 * torch.randn(200, 10)
    target = logits.argmax(1)

    def gradient(logits, **more):
        logits = logits.clone().requires_grad_()
        loss = encouraging_loss(logits, target, log_end=log_end, reduction="sum")
        return torch.autograd.grad(loss, logits, **more)[0].detach()

    exact = gradient(logits.double())
    assert (gradient(logits, create_graph=True) - exact).abs().max() < 1e-6
