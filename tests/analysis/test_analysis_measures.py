"""Frequency classes and shares of the gradient, each against a few lines of naive code."""

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary

from el_fairseq.analysis import frequency
from el_fairseq.analysis.gradient import gradient_shares, gradient_size
from el_fairseq.loss import encouraging_loss


@pytest.mark.parametrize("log_end", [None, 0.5, 0.75, 1])
def test_gradient_size_is_what_autograd_gives(log_end):
    draw = torch.Generator().manual_seed(2)
    logits = 4 * torch.randn(200, 6, generator=draw, dtype=torch.float64)
    logits[0, 0] = 60  # so sure that the normal bonus has gone flat
    target = torch.zeros(200, dtype=torch.int64)
    logits.requires_grad_()
    options = {"bonus_weight": 0} if log_end is None else {"log_end": log_end}
    encouraging_loss(logits, target, **options, reduction="sum").backward()
    prob = logits.detach().softmax(-1)[:, 0].numpy()
    expected = logits.grad.abs().sum(-1).numpy()
    np.testing.assert_allclose(gradient_size(prob, log_end), expected, rtol=1e-9, atol=1e-12)


def test_the_share_of_well_classified_tokens_is_theirs_of_the_whole_gradient():
    shares = gradient_shares(np.array([0.2, 0.6, 0.9]), log_end=0.5)
    assert shares["tokens"] == pytest.approx(2 / 3)
    assert shares["ce"] == pytest.approx((0.4 + 0.1) / (0.8 + 0.4 + 0.1))
    # (1 - p) |g|, with g = 1/(1 - p) up to p = 0.5 and 1 + p/(1 - 0.5) beyond
    assert shares["el"] == pytest.approx((0.4 * 2.2 + 0.1 * 2.8) / (1 + 0.4 * 2.2 + 0.1 * 2.8))


def counted(**counts):
    """Training counts by a dictionary of words with these counts."""
    dictionary = Dictionary()
    for word, count in counts.items():
        dictionary.add_symbol(word, n=count)
    return frequency.token_counts(dictionary)


def test_frequency_classes_are_tertiles_of_the_training_tokens():
    counts = counted(a=50, b=40, c=30, d=20, e=9, f=1)
    # 150 tokens: a makes up the first third exactly, b and c reach 120 of them, d to f the rest.
    described = frequency.describe(counts, frequency.classes_of(counts))
    assert [described[name]["entries"] for name in frequency.CLASSES] == [1, 2, 3]
    assert described["medium"] == {"least_count": 30, "greatest_count": 40, "entries": 2}
    assert set(frequency.classes_of(np.zeros(5, dtype=int))) == {"rare"}


def test_accuracies_are_of_a_classs_tokens_and_special_symbols_are_in_none():
    counts = counted(a=6, b=3, c=3)
    token = np.array([0, 1, 2, 3, 4, 4, 4, 5, 6])  # special up to 3
    columns = {"correct": token == 4, "prob": token / 10, "margin": token * 1.0}
    rows = frequency.by_frequency(columns, frequency.classes_of(counts)[token])
    tokens = {name: row["tokens"] for name, row in rows.items()}
    assert tokens == {"frequent": 3, "medium": 2, "special": 4}
    assert rows["medium"]["median_margin"] == 5.5
    assert rows["medium"]["prob"] == pytest.approx(0.55)
    accuracy = rows["frequent"]["accuracy"]
    # Wilson's interval: a few tokens that are all right are not called certain.
    assert (accuracy["value"], accuracy["high"]) == (1, pytest.approx(1))
    assert accuracy["low"] == pytest.approx(3 / (3 + 1.96**2), rel=1e-3)
