"""Calibration, frequency, distributions and gradient, each against a few lines of naive code."""

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary

from el_fairseq.analysis import distributions, frequency, tokens
from el_fairseq.analysis.calibration import calibration
from el_fairseq.analysis.gradient import gradient_shares, gradient_size
from el_fairseq.analysis.tokens import TokenTable
from el_fairseq.loss import encouraging_loss


@pytest.fixture(scope="module")
def batch():
    draw = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(20, 9, 12, generator=draw, dtype=torch.float64)
    return logits, torch.randint(0, 12, (20, 9), generator=draw)


@pytest.fixture(scope="module")
def columns(batch):
    logits, target = batch
    table = TokenTable()
    table.add(logits, target, torch.arange(20), -1)
    return table.columns()


def test_calibration_error_is_the_mean_gap_of_confidence_and_accuracy(batch, columns):
    logits, target = batch
    confidence, choice = logits.softmax(-1).max(-1)
    right = (choice == target).flatten().tolist()
    bins = {}
    for p, correct in zip(confidence.flatten().tolist(), right):
        number = next(i for i in range(15) if p <= (i + 1) / 15)
        bins.setdefault(number, []).append((p, correct))
    gaps = [abs(sum(p - correct for p, correct in found)) for found in bins.values()]
    found = calibration(columns)
    assert found["expected_calibration_error"] == pytest.approx(sum(gaps) / len(right))
    assert found["reliability"]["tokens"].sum() == len(right)
    for number, inside in bins.items():
        accuracy = sum(correct for _, correct in inside) / len(inside)
        assert found["reliability"]["accuracy"][number] == pytest.approx(accuracy)
    assert 0 <= found["low"] < found["expected_calibration_error"] < found["high"]
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
    spread = np.std([one["expected_calibration_error"] for one in found])
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.25)
    assert np.mean([one["low"] < 0.1 < one["high"] for one in found]) >= 0.88


@pytest.mark.parametrize("log_end", [None, 0.5, 0.75, 1])
def test_gradient_size_is_what_autograd_finds(log_end):
    draw = torch.Generator().manual_seed(2)
    logits = 4 * torch.randn(200, 6, generator=draw, dtype=torch.float64)
    logits[0, 0] = 60  # so sure that the normal bonus has gone flat
    target = torch.zeros(200, dtype=torch.int64)
    logits.requires_grad_()
    if log_end is None:
        loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
    else:
        loss = encouraging_loss(logits, target, log_end=log_end, reduction="sum")
    loss.backward()
    prob = logits.detach().softmax(-1)[:, 0].numpy()
    expected = logits.grad.abs().sum(-1).numpy()
    np.testing.assert_allclose(gradient_size(prob, log_end), expected, rtol=1e-9, atol=1e-12)


def test_the_share_of_well_classified_tokens_is_theirs_of_the_whole_gradient():
    prob = np.array([0.2, 0.6, 0.9])
    shares = gradient_shares(prob, log_end=0.5)
    assert shares["tokens"] == pytest.approx(2 / 3)
    assert shares["ce"] == pytest.approx((0.4 + 0.1) / (0.8 + 0.4 + 0.1))
    # (1 - p) |g|, with g = 1/(1 - p) up to p = 0.5 and 1 + p/(1 - 0.5) beyond
    assert shares["el"] == pytest.approx((0.4 * 2.2 + 0.1 * 2.8) / (1 + 0.4 * 2.2 + 0.1 * 2.8))


def test_bins_of_the_targets_probability_hold_the_whole_gradient(columns):
    prob = columns["prob"]
    bins = gradient_shares(prob, log_end=0.5)["bins"]
    inside = (prob > 0.3) & (prob <= 0.4)
    assert inside.any()
    assert bins["ce"].sum() == pytest.approx(1)
    assert bins["el"][3] == pytest.approx(
        gradient_size(prob[inside], 0.5).sum() / gradient_size(prob, 0.5).sum()
    )


def test_frequency_classes_are_tertiles_of_the_training_tokens():
    dictionary = Dictionary()
    for word, count in {"a": 50, "b": 40, "c": 30, "d": 20, "e": 9, "f": 1}.items():
        dictionary.add_symbol(word, n=count)
    counts = frequency.token_counts(dictionary)
    bounds = frequency.frequency_bounds(counts)
    # 150 tokens: a makes up the first third exactly, b and c reach 120 of them, d to f the rest.
    assert bounds == {"frequent": 50, "medium": 30, "rare": 0}
    described = frequency.describe_bounds(counts, bounds)
    assert [described[name]["entries"] for name in frequency.CLASSES] == [1, 2, 3]
    assert described["medium"]["least_count"] == 30
    assert described["medium"]["greatest_count"] == 40
    assert described["rare"]["share_of_training_tokens"] == pytest.approx(30 / 150)


def test_special_symbols_are_in_no_frequency_class(columns):
    dictionary = Dictionary()
    for i in range(8):
        dictionary.add_symbol(f"word{i}", n=8 - i)
    counts = frequency.token_counts(dictionary)
    table = {**columns, "frequency": counts[columns["token"]]}
    bounds = frequency.frequency_bounds(counts)
    rows = frequency.by_frequency(table, bounds)
    special = columns["token"] < dictionary.nspecial
    assert rows["special"]["tokens"] == special.sum()
    assert sum(row["tokens"] for row in rows.values()) == len(special)
    many = np.isin(columns["token"], np.flatnonzero(counts >= bounds["frequent"]))
    accuracy = rows["frequent"]["accuracy"]
    assert accuracy["value"] == pytest.approx(columns["correct"][many].mean())
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert rows["frequent"]["median_margin"] == pytest.approx(np.median(columns["margin"][many]))


def test_a_few_tokens_that_are_all_right_are_not_called_certain():
    columns = {"frequency": np.array([1, 1, 1]), "correct": np.array([True] * 3)}
    columns.update(prob=np.ones(3), margin=np.ones(3))
    rows = frequency.by_frequency(columns, {"frequent": 9, "medium": 5, "rare": 0})
    accuracy = rows["rare"]["accuracy"]
    assert (accuracy["value"], accuracy["high"]) == (1, pytest.approx(1))
    assert accuracy["low"] == pytest.approx(3 / (3 + 1.96**2), rel=1e-3)


def test_a_dictionary_without_counts_has_one_class():
    counts = np.zeros(5, dtype=int)
    assert set(frequency.class_of(counts, frequency.frequency_bounds(counts))) == {2}


def test_summaries_are_of_all_tokens_and_histograms_lose_none(columns):
    edges = distributions.common_edges([columns])
    found = distributions.summary(columns, edges)
    for name in tokens.MEASURES:
        values = columns[name]
        assert found[name]["mean"] == pytest.approx(values.mean()), name
        assert found[name]["median"] == pytest.approx(np.median(values)), name
        assert found[name]["quantiles"]["0.25"] == pytest.approx(np.quantile(values, 0.25)), name
        histogram = found[name]["histogram"]
        assert histogram["tokens"].sum() + histogram["below"] + histogram["above"] == len(values)


def test_models_share_the_edges_of_their_histograms(columns):
    wider = {name: np.concatenate([column, 2 * column]) for name, column in columns.items()}
    edges = distributions.common_edges([columns, wider])
    assert edges["margin"][0] <= np.quantile(wider["margin"], 0.005)
    assert edges["margin"][-1] >= np.quantile(wider["margin"], 0.995)


def test_relative_margins_do_not_change_with_the_scale_of_the_logits(batch, columns):
    logits, target = batch
    table = TokenTable()
    table.add(10 * logits, target, torch.arange(20), -1)
    scaled = table.columns()
    np.testing.assert_allclose(scaled["margin"], 10 * columns["margin"], rtol=1e-9)
    np.testing.assert_allclose(scaled["relative_margin"], columns["relative_margin"], rtol=1e-9)
