import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from el_fairseq.analysis import tables, tokens
from el_fairseq.analysis.tokens import TokenTable, summaries, token_columns

PADDING = 1


def naive(logits, target):
    """Every quantity of one token, by its definition, in Python's floats."""
    logits = [float(value) for value in logits]
    total = sum(math.exp(value) for value in logits)
    probs = [math.exp(value) / total for value in logits]
    others = [value for i, value in enumerate(logits) if i != target]
    finite = [value for value in logits if math.isfinite(value)]
    mean = sum(finite) / len(finite)
    std = math.sqrt(sum((value - mean) ** 2 for value in finite) / len(finite))
    return {
        "prob": probs[target],
        "confidence": max(probs),
        "log_prob": math.log(probs[target]),
        "rank": 1 + sum(value > logits[target] for value in logits),
        "entropy": -sum(p * math.log(p) for p in probs if p > 0),
        "energy": -logits[target],
        "free_energy": -math.log(total),
        "margin": logits[target] - max(others),
        "logit_std": std,
        "relative_margin": (logits[target] - max(others)) / std,
        "relative_energy": -math.log(probs[target]) / std,
    }


def check(logits, target, tolerance):
    columns = token_columns(logits, target, PADDING)
    kept = [(row, int(y)) for row, y in zip(logits, target) if y != PADDING]
    expected = [naive(row, y) for row, y in kept]
    for name, column in columns.items():
        wanted = [row[name] for row in expected]
        np.testing.assert_allclose(column, wanted, rtol=tolerance, atol=tolerance, err_msg=name)


def random_batch(rows, classes, dtype=torch.float64):
    draw = torch.Generator().manual_seed(rows * classes)
    logits = 3 * torch.randn(rows, classes, generator=draw, dtype=torch.float64) + 5
    target = torch.randint(0, classes, (rows,), generator=draw)
    return logits.to(dtype), target


@pytest.mark.parametrize("classes", [2, 3, 50])
def test_columns_are_what_their_definitions_say(classes):
    check(*random_batch(41, classes), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits, target = random_batch(41, 50, dtype)
    columns = token_columns(logits, target, PADDING)
    assert columns["log_prob"].dtype == torch.float32
    check(logits, target, 5e-6)


def test_ruled_out_classes_count_for_nothing():
    logits, target = random_batch(41, 50)
    logits[:, 7] = -torch.inf
    target[target == 7] = 8
    check(logits, target, 1e-12)


def test_blocks_do_not_change_the_columns(monkeypatch):
    logits, target = random_batch(101, 20)
    whole = token_columns(logits, target, PADDING)
    monkeypatch.setattr(tokens, "CPU_BLOCK_ELEMENTS", 140)
    parts = token_columns(logits, target, PADDING)
    for name, column in whole.items():
        torch.testing.assert_close(parts[name], column, rtol=1e-12, atol=1e-12)


@given(
    st.lists(st.floats(-30, 30), min_size=2, max_size=12),
    st.integers(0, 11),
    st.floats(-1e3, 1e3),
)
def test_a_constant_added_to_the_logits_moves_the_energies_alone(values, target, constant):
    logits = torch.tensor([values], dtype=torch.float64)
    y = torch.tensor([target % len(values)])
    before = token_columns(logits, y, -1)
    after = token_columns(logits + constant, y, -1)
    for name in ("log_prob", "entropy", "margin", "logit_std"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-9, atol=1e-9)
    for name in ("energy", "free_energy"):
        torch.testing.assert_close(after[name], before[name] - constant, rtol=1e-9, atol=1e-9)
    difference = before["energy"] - before["free_energy"]
    torch.testing.assert_close(difference, -before["log_prob"], rtol=1e-9, atol=1e-9)


def test_a_measure_is_added_by_one_function(monkeypatch):
    monkeypatch.setitem(tokens.MEASURES, "rest", None)  # takes it out again

    @tokens.measure("probability of the rest", form=".2f")
    def rest(rows):
        """The probability of all classes but the first choice and the target's."""
        return 1 - rows["confidence"] - rows["prob"] * (rows["rank"] > 1)

    logits, target = random_batch(41, 9)
    table = TokenTable()
    table.add(logits.unsqueeze(0), target.unsqueeze(0), torch.zeros(1), PADDING)
    columns = table.columns()
    chosen = [{int(row.argmax()), int(y)} for row, y in zip(logits, target) if y != PADDING]
    rows = logits[target != PADDING].softmax(1)
    expected = [1 - sum(row[i] for i in kept) for row, kept in zip(rows, chosen)]
    np.testing.assert_allclose(columns["rest"], expected, atol=1e-12)
    quantities = summaries({"CE": columns})["CE"]
    registered = {name: vars(measure) for name, measure in tokens.MEASURES.items()}
    *_, row = tables.measures({"CE": {"quantities": quantities}}, registered).rows
    assert row[:3] == ["probability of the rest", "CE", f"{np.mean(expected):.2f}"]


def test_summaries_are_of_all_tokens_and_histograms_of_models_share_their_edges():
    logits, target = random_batch(200, 9)
    few, many = TokenTable(), TokenTable()
    few.add(logits.unsqueeze(0), target.unsqueeze(0), torch.zeros(1), PADDING)
    many.add(2 * logits.unsqueeze(0), target.unsqueeze(0), torch.zeros(1), PADDING)
    columns = {"few": few.columns(), "many": many.columns()}
    found = summaries(columns)
    for name in tokens.MEASURES:
        edges = [found[model][name]["histogram"]["bin_edges"] for model in columns]
        assert (edges[0] == edges[1]).all(), name
        for model in columns:
            summary, values = found[model][name], columns[model][name]
            assert summary["mean"] == pytest.approx(values.mean()), name
            assert summary["quantiles"]["0.25"] == pytest.approx(np.quantile(values, 0.25)), name
            assert edges[0][0] <= np.quantile(values, 0.005), name
            histogram = summary["histogram"]
            counted = histogram["tokens"].sum() + histogram["below"] + histogram["above"]
            assert counted == len(values), name
