import numpy as np
import pytest
import torch

from el_fairseq.analysis import calibration as module
from el_fairseq.analysis.calibration import calibration, slopes
from el_fairseq.analysis.tokens import TokenTable


def columns_of(logits, target):
    table = TokenTable()
    table.add(logits, target, torch.arange(len(logits)), -1)
    return table.columns()


def test_calibration_error_is_the_mean_gap_of_confidence_and_accuracy():
    draw = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(20, 9, 12, generator=draw, dtype=torch.float64)
    target = torch.randint(0, 12, (20, 9), generator=draw)
    confidence, choice = logits.softmax(-1).max(-1)
    right = (choice == target).flatten().tolist()
    bins = {}
    for p, correct in zip(confidence.flatten().tolist(), right):
        number = next(i for i in range(15) if p <= (i + 1) / 15)
        bins.setdefault(number, []).append((p, correct))
    gaps = [abs(sum(p - correct for p, correct in inside)) for inside in bins.values()]
    found = calibration(columns_of(logits, target))
    assert found["expected_calibration_error"] == pytest.approx(sum(gaps) / len(right))
    assert found["reliability"]["tokens"].sum() == len(right)
    for number, inside in bins.items():
        accuracy = sum(correct for _, correct in inside) / len(inside)
        assert found["reliability"]["accuracy"][number] == pytest.approx(accuracy)
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    assert found["nll_nats"] == pytest.approx(nll.item())


def test_the_calibration_errors_interval_is_as_wide_as_it_differs_between_samples():
    draw = np.random.default_rng(1)

    def sample():
        """A model that says 0.9 and is right in 80 % of 300 sentences, all tokens or none."""
        right = np.repeat(draw.random(300) < 0.8, 4)
        columns = {"confidence": np.full(1200, 0.9), "correct": right}
        return calibration(
            {**columns, "sentence": np.repeat(np.arange(300), 4), "log_prob": np.zeros(1200)}
        )

    found = [sample() for _ in range(100)]
    width = np.mean([one["high"] - one["low"] for one in found])
    deviation = np.std([one["expected_calibration_error"] for one in found])
    assert width == pytest.approx(2 * 1.96 * deviation, rel=0.25)
    assert np.mean([one["low"] < 0.1 < one["high"] for one in found]) >= 0.88


@pytest.fixture(scope="module")
def sampled():
    """Logits (2000, 10) and targets drawn from their softmax at temperature 2."""
    draw = torch.Generator().manual_seed(5)
    logits = 6 * torch.randn(2000, 10, generator=draw, dtype=torch.float64)
    target = (logits / 2).softmax(-1).multinomial(1, generator=draw).squeeze(1)
    return logits, target


def fitted(logits, target):
    return module.fit_temperature(lambda inverse: slopes(logits, target, -1, inverse).tolist())


@pytest.mark.parametrize("inverse", [0.3, 1.0, 2.5])
def test_slopes_are_those_of_autograd(sampled, inverse):
    logits, target = sampled
    logits = logits.clone()
    logits[:, 3] = -torch.inf
    target = target.where(target != 3, -1)
    at = torch.tensor(inverse, dtype=torch.float64, requires_grad=True)
    scores = at * logits.masked_fill(logits.isinf(), -1e9)
    nll = torch.nn.functional.cross_entropy(scores, target, ignore_index=-1, reduction="sum")
    (first,) = torch.autograd.grad(nll, at, create_graph=True)
    (second,) = torch.autograd.grad(first, at)
    found = slopes(logits, target, -1, inverse)
    np.testing.assert_allclose(found, [first.item(), second.item()], rtol=1e-9)


def test_the_temperature_that_made_the_targets_is_fitted_and_calibrates(sampled):
    logits, target = sampled
    temperature = fitted(logits, target)
    assert temperature == pytest.approx(2, rel=0.05)
    before, after = (
        calibration(columns_of(one.unsqueeze(0), target.unsqueeze(0)))["expected_calibration_error"]
        for one in (logits, logits / temperature)
    )
    assert before > 0.1 and after < 0.03
    nll = [
        torch.nn.functional.cross_entropy(logits / (temperature * factor), target).item()
        for factor in (0.99, 1, 1.01)
    ]
    assert min(nll) == nll[1]


@pytest.mark.parametrize("scale", [0.02, 0.3, 7])
def test_logits_of_another_scale_have_the_temperature_of_that_scale(sampled, scale):
    logits, target = sampled
    expected = max(scale * fitted(logits, target), module.LEAST)
    assert fitted(scale * logits, target) == pytest.approx(expected, rel=2e-3)


def test_a_model_that_is_always_right_is_told_to_be_surer_within_bounds():
    assert module.LEAST <= fitted(5 * torch.eye(8), torch.arange(8)) < 0.5
