"""The public functions and the module: golden values, F.cross_entropy, options and bad input."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, run, succeed
from formula import loss_and_gradient, random_case
from torch import nn, zeros

from el_fairseq import EncouragingLoss, encouraging_loss, linear_encouraging_loss

GOLDEN = json.loads((Path(__file__).parent / "golden" / "encouraging_loss.json").read_text())


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
@pytest.mark.parametrize("weight", [None, torch.rand(5, dtype=torch.float64)])
def test_without_the_bonus_it_is_cross_entropy(shape, reduction, label_smoothing, weight):
    logits = torch.randn(shape, dtype=torch.float64)
    size = torch.Size([]) if len(shape) == 1 else torch.Size([shape[0], *shape[2:]])
    target = torch.randint(3, size)
    if target.numel() > 1:
        target.view(-1)[1] = 3
    options = {
        "label_smoothing": label_smoothing,
        "ignore_index": 3,
        "reduction": reduction,
        "weight": weight,
    }
    module = EncouragingLoss(bonus_weight=0.0, **options)
    actual = loss_and_gradient(lambda x: module(x, target), logits)
    expected = loss_and_gradient(lambda x: F.cross_entropy(x, target, **options), logits)
    if target.numel() == 0 and reduction == "mean":  # F.cross_entropy says NaN: 0 / 0
        assert actual[0] == 0
    else:
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("weight", [None, torch.rand(11, dtype=torch.float64)])
def test_the_mean_squared_error_has_its_mirrored_bonus(weight):
    logits, target = random_case()
    target[2] = -100
    counts = (target != -100) * (1 if weight is None else weight[target.clamp(min=0)])

    def literal(logits):
        probs, onehot = logits.softmax(-1), F.one_hot(target.clamp(min=0), 11)
        losses = ((onehot - probs) ** 2 - 0.5 * (onehot - (1 - probs)) ** 2).mean(-1)
        return (losses * counts).sum() / counts.sum()

    options = {"base_loss": "mse", "bonus_weight": 0.5, "weight": weight}
    actual = loss_and_gradient(lambda x: encouraging_loss(x, target, **options), logits)
    torch.testing.assert_close(actual, loss_and_gradient(literal, logits))


def test_the_module_says_its_options_and_computes_what_the_function_does():
    options = {
        "log_end": np.float32(0.75),
        "label_smoothing": 0.1,
        "ignore_index": np.int64(2),
        "reduction": "sum",
        "bonus_weight": 1,
        "bonus_start": 0.2,
    }
    logits, target = random_case()
    weight = torch.rand(11)
    module = EncouragingLoss(weight=weight, **options)
    assert isinstance(module, nn.Module)
    assert module(logits, target.byte()) == encouraging_loss(
        logits, target, weight=weight, **options
    )
    assert "weight" in module.state_dict()
    for name, value in options.items():
        assert f"{name}={value!r}" in repr(module)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("log_end", 0, "a number in (0, 1]"),
        ("log_end", 1.5, "a number in (0, 1]"),
        ("log_end", float("nan"), "a number in (0, 1]"),
        ("log_end", None, "a number in (0, 1]"),
        ("log_end", True, "a number in (0, 1]"),
        ("label_smoothing", 1.0, "a number in [0, 1)"),
        ("label_smoothing", -0.1, "a number in [0, 1)"),
        ("bonus_weight", float("inf"), "a number, 0 or more"),
        ("bonus_weight", torch.ones(2), "a number, 0 or more"),
        ("bonus_start", 0.5, "a number in [0, log_end)"),
        ("bonus_start", "0", "a number in [0, log_end)"),
        ("reduction", None, "'mean', 'sum' or 'none'"),
        ("base_loss", ["ce"], "'ce' or 'mse'"),
        ("ignore_index", -1.5, "a whole number"),
        ("inplace_backward", "no", "True or False"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(option, value, expected):
    logits, target = random_case()
    for call in (lambda **options: encouraging_loss(logits, target, **options), EncouragingLoss):
        with pytest.raises(ValueError) as caught:
            call(**{option: value})
        assert str(caught.value) == f"{option} is {value!r}, expected {expected}"


def test_the_mean_squared_error_refuses_options_that_are_not_its():
    with pytest.raises(ValueError, match=r"are 0\.1 and 0\.2: set both to 0"):
        EncouragingLoss(base_loss="mse", label_smoothing=0.1, bonus_start=0.2)


def classes(*shape):
    return zeros(shape, dtype=torch.int64)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (classes(3, 5), classes(3), "logits is torch.int64, expected floating point"),
        (zeros(3, 5), zeros(3, 5), "target is torch.float32, expected int64 class indices"),
        (zeros(3, 5), zeros(3, dtype=torch.int32), "as target.long() makes them"),
        (zeros(3, 5), classes(4), "shape (4,), expected (3,)"),
        (zeros(3, 4, 2, 5), classes(3, 4, 2), "pass logits.flatten(0, -2) and target.flatten()"),
        ([[0.0, 1.0]], classes(1), "logits is list, expected a tensor"),
        (zeros(1, 5), [0], "target is list, expected a tensor"),
        (zeros(()), classes(), "logits have no dimensions"),
        (zeros(2, 5), torch.tensor([0, 5]), "target holds class 5, expected 0 to 4"),
        (zeros(2, 5), torch.tensor([-1, 0]), "target holds class -1, expected 0 to 4"),
        (zeros(2, 0), classes(2), "target holds class 0, expected 0 to -1"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_in_words(logits, target, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        encouraging_loss(logits, target)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": zeros(13, 5)}, "weight has shape (13, 5), expected (13, 4)"),
        ({"bias": zeros(1)}, "bias has shape (1,), expected (13,)"),
        ({"target": classes(8)}, "target has shape (8,), expected (9,) for hidden states of shape"),
        ({"class_weight": zeros(4)}, "class_weight has shape (4,), expected (13,)"),
        ({"class_weight": [1.0] * 13}, "class_weight is list, expected a tensor"),
    ],
)
def test_the_fused_projection_names_the_tensor_that_does_not_fit(tensors, message):
    fitting = {"hidden": zeros(9, 4), "weight": zeros(13, 4), "target": classes(9)}
    with pytest.raises((TypeError, ValueError)) as caught:
        linear_encouraging_loss(**{**fitting, **tensors})
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("base_loss", ["ce", "mse"])
def test_an_ignored_row_counts_for_nothing_whatever_its_logits(value, base_loss):
    logits, target = random_case()
    target[2] = -100
    logits[2] = 0
    actual, expected = (
        loss_and_gradient(lambda x: encouraging_loss(x, target, base_loss=base_loss), each)
        for each in (logits.index_fill(0, torch.tensor(2), value), logits)
    )
    assert all(map(torch.equal, actual, expected))
    assert not actual[1][2].any()


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"base_loss": "mse"}])
def test_without_classes_all_targets_are_ignored(rows, options):
    logits = torch.zeros(rows, 0, requires_grad=True)
    loss = encouraging_loss(logits, torch.full((rows,), -100), **options)
    assert loss == 0
    assert torch.autograd.grad(loss, logits)[0].shape == (rows, 0)


@pytest.mark.parametrize("base_loss", ["ce", "mse"])
def test_it_validates_in_inference_mode_as_cross_entropy_does(base_loss):
    with torch.inference_mode():
        logits, target = torch.zeros(3, 4), torch.tensor([0, 1, -100])
        loss = encouraging_loss(logits, target, bonus_weight=0.0, base_loss=base_loss)
        linear = linear_encouraging_loss(logits, torch.zeros(5, 4), target, bonus_weight=0.0)
    assert loss == pytest.approx(torch.tensor(4.0).log() if base_loss == "ce" else 0.1875)
    assert linear == pytest.approx(torch.tensor(5.0).log())


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


def test_the_package_brings_the_plain_loss_alone_also_where_fairseq_does_not_import():
    code = (
        "import sys; sys.modules['fairseq'] = None\n"
        "import logging, torch\n"
        "trusted = getattr(torch.serialization, 'get_safe_globals', list)\n"
        "before = trusted()\n"
        "import el_fairseq\n"
        "assert trusted() == before and not logging.getLogger().handlers\n"
        "assert not {'numba', 'hydra', 'transformers'} & set(sys.modules)\n"
        "print(el_fairseq.encouraging_loss(torch.zeros(1, 4), torch.tensor([1])).item())\n"
        "try: el_fairseq.EncouragingLossCriterion\n"
        "except ImportError as error: print(error)\n"
    )
    result = succeed(run([sys.executable, "-c", code]))
    value, explanation = result.stdout.splitlines()
    assert float(value) == pytest.approx(1.0986, abs=1e-4)  # log 4 + log 3/4
    assert "needs fairseq" in explanation and "pip install" in explanation
    assert not result.stderr
