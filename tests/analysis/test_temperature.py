import numpy as np
import pytest
import torch

from el_fairseq.analysis import temperature
from el_fairseq.analysis.calibration import calibration
from el_fairseq.analysis.models import load_models, load_subset
from el_fairseq.analysis.runner import Runner
from el_fairseq.analysis.tokens import TokenTable


@pytest.fixture(scope="module")
def sampled():
    """Logits (2000, 10) and targets drawn from their softmax at temperature 2."""
    draw = torch.Generator().manual_seed(5)
    logits = 6 * torch.randn(2000, 10, generator=draw, dtype=torch.float64)
    target = (logits / 2).softmax(-1).multinomial(1, generator=draw).squeeze(1)
    return logits, target


def fitted(logits, target):
    def slopes(inverse):
        return temperature.likelihood_and_slopes(logits, target, -1, inverse)[1:].tolist()

    return temperature.fit_temperature(slopes)


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
    found = temperature.likelihood_and_slopes(logits, target, -1, inverse)
    expected = [nll.item(), first.item(), second.item()]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_temperature_that_made_the_targets_is_found_and_calibrates(sampled):
    found = fitted(*sampled)
    assert found == pytest.approx(2, rel=0.05)
    errors = []
    for logits in (sampled[0], sampled[0] / found):
        table = TokenTable()
        table.add(logits.unsqueeze(0), sampled[1].unsqueeze(0), torch.zeros(1), -1)
        errors.append(calibration(table.columns())["expected_calibration_error"])
    assert errors[0] > 0.1
    assert errors[1] < 0.03


def test_no_other_temperature_has_a_smaller_likelihood(sampled):
    best = fitted(*sampled)
    nll = [
        temperature.likelihood_and_slopes(*sampled, -1, 1 / (best * factor))[0]
        for factor in (0.99, 1, 1.01)
    ]
    assert min(nll) == nll[1]


@pytest.mark.parametrize("scale", [0.02, 0.3, 7])
def test_logits_of_another_scale_have_the_temperature_of_that_scale(sampled, scale):
    logits, target = sampled
    expected = max(scale * fitted(logits, target), temperature.LEAST)
    assert fitted(scale * logits, target) == pytest.approx(expected, rel=2e-3)


def test_a_model_that_is_always_right_is_told_to_be_surer_within_bounds():
    assert temperature.LEAST <= fitted(5 * torch.eye(8), torch.arange(8)) < 0.5


def test_a_checkpoint_is_measured_before_and_after(tiny):
    found = temperature.of_checkpoints({"CE": [str(tiny.ce)]}, tiny.bin)["CE"]
    task, (model,) = load_models({"CE": [str(tiny.ce)]}, tiny.bin)
    datasets = {name: load_subset(task, tiny.bin, name) for name in ("valid", "test")}
    runner = Runner(task, [model], 4096, 1, "cpu")
    columns = {name: runner.token_columns(model, data, "") for name, data in datasets.items()}
    assert found["before"]["nll_nats"] == pytest.approx(-columns["test"]["log_prob"].mean(), 1e-5)
    # Where the temperature was fitted, it lowers the likelihood, of one model in one batch.
    own = temperature.with_temperature(runner, model, datasets["valid"], datasets["valid"])
    assert own["temperature"] == pytest.approx(found["temperature"])
    assert own["after"]["nll_nats"] < own["before"]["nll_nats"]
    assert found["temperature"] != pytest.approx(1, abs=0.01)
