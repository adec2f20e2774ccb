import numpy as np
import pytest
import torch
import torch.nn.functional as F

from el_fairseq.analysis.calibration import TEMPERATURES, calibration, fit_temperature
from el_fairseq.analysis.tokens import token_columns


def calibration_of(logits, target):
    """Of logits (N, V), a sentence each."""
    numbers = torch.arange(len(target))
    return calibration(token_columns(logits.unsqueeze(1), target.unsqueeze(1), numbers, -1))


def test_calibration_error_is_the_mean_gap_of_confidence_and_accuracy():
    draw = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(180, 12, generator=draw, dtype=torch.float64)
    target = torch.randint(0, 12, (180,), generator=draw)
    confidence, choice = logits.softmax(-1).max(-1)
    both = torch.stack([confidence, choice == target])
    result, gaps = calibration_of(logits, target), 0
    reliability = result["reliability"]
    for number in range(15):
        inside = both[:, (number / 15 < confidence) & (confidence <= (number + 1) / 15)]
        gaps += abs(float(inside[0].sum() - inside[1].sum()))
        assert reliability["tokens"][number] == inside.size(1)
        of_bin = reliability["confidence"][number], reliability["accuracy"][number]
        assert of_bin == pytest.approx(inside.mean(1).tolist(), nan_ok=True)
    assert result["expected_calibration_error"] == pytest.approx(gaps / len(target))
    assert result["nll_nats"] == pytest.approx(F.cross_entropy(logits, target).item())


def test_the_calibration_errors_interval_is_as_wide_as_it_differs_between_samples():
    draw = np.random.default_rng(1)

    def sample():
        """A model that says 0.9 and is right in 80 % of 300 sentences, all tokens or none."""
        right = np.repeat(draw.random(300) < 0.8, 4)
        columns = {"confidence": np.full(1200, 0.9), "correct": right}
        return calibration(
            {**columns, "sentence": np.repeat(np.arange(300), 4), "log_prob": np.zeros(1200)}
        )

    result = [sample() for _ in range(100)]
    width = np.mean([one["high"] - one["low"] for one in result])
    deviation = np.std([one["expected_calibration_error"] for one in result])
    assert width == pytest.approx(2 * 1.96 * deviation, rel=0.25)
    assert np.mean([one["low"] < 0.1 < one["high"] for one in result]) >= 0.88


@pytest.mark.parametrize("scale", [0.02, 0.3, 1, 7])
def test_the_temperature_that_made_the_targets_is_fitted_and_calibrates(scale):
    draw = torch.Generator().manual_seed(5)
    logits = 6 * torch.randn(2000, 10, generator=draw, dtype=torch.float64)
    target = (logits / 2).softmax(-1).multinomial(1, generator=draw).squeeze(1)
    logits = scale * logits

    def nll(temperature):
        return F.cross_entropy(logits / temperature, target, reduction="sum").item()

    temperature = fit_temperature(nll)
    assert temperature == pytest.approx(max(2 * scale, TEMPERATURES[0]), rel=0.05)
    if 2 * scale > TEMPERATURES[0]:
        assert nll(temperature) < min(nll(0.99 * temperature), nll(1.01 * temperature))
        fitted = calibration_of(logits / temperature, target)["expected_calibration_error"]
        assert fitted < 0.03
        if scale == 1:
            assert calibration_of(logits, target)["expected_calibration_error"] > 0.1
