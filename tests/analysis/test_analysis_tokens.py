import math

import numpy as np
import pytest
import torch

from el_fairseq.analysis import tables, tokens
from el_fairseq.analysis.tokens import summaries, token_columns

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
        "correct": logits[target] == max(logits),
        "entropy": -sum(p * math.log(p) for p in probs if p > 0),
        "energy": -logits[target],
        "free_energy": -math.log(total),
        "margin": logits[target] - max(others),
        "logit_std": std,
        "relative_margin": (logits[target] - max(others)) / std,
        "relative_energy": -math.log(probs[target]) / std,
    }


def batch_of(classes, sentences=7, length=6):
    draw = torch.Generator().manual_seed(classes)
    size = sentences, length
    logits = 3 * torch.randn(*size, classes, generator=draw, dtype=torch.float64) + 50
    return logits, torch.randint(0, classes, size, generator=draw)


def columns_of(logits, target):
    return token_columns(logits, target, torch.arange(len(target)), PADDING)


@pytest.mark.parametrize(("classes", "ruled_out"), [(2, []), (50, []), (50, [7])])
def test_columns_are_what_their_definitions_say(classes, ruled_out, monkeypatch):
    monkeypatch.setattr(tokens, "CPU_BLOCK_ELEMENTS", 4 * classes)
    logits, target = batch_of(classes)
    logits[..., ruled_out] = -torch.inf
    target[target == 7] = 8
    columns = columns_of(logits, target)
    expected = [
        {"sentence": i, "position": position, "token": int(y), **naive(row, y)}
        for i, (rows, of_rows) in enumerate(zip(logits, target))
        for position, (row, y) in enumerate((r, y) for r, y in zip(rows, of_rows) if y != PADDING)
    ]
    assert set(columns) == set(expected[0])
    for name, column in columns.items():
        wanted = [row[name] for row in expected]
        np.testing.assert_allclose(column, wanted, rtol=1e-11, atol=1e-11, err_msg=name)


def test_a_measure_is_added_by_one_function(monkeypatch):
    monkeypatch.setitem(tokens.MEASURES, "rest", None)  # takes it out again

    @tokens.measure("probability of the rest", form=".2f")
    def rest(rows):
        """The probability of all classes but the first choice and the target's."""
        return 1 - rows["confidence"] - rows["prob"] * (rows["rank"] > 1)

    logits, target = batch_of(9)
    columns = columns_of(logits, target)
    rows, classes = logits[target != PADDING], target[target != PADDING]
    chosen = [{int(row.argmax()), int(y)} for row, y in zip(rows, classes)]
    expected = [1 - sum(row[i] for i in kept) for row, kept in zip(rows.softmax(1), chosen)]
    np.testing.assert_allclose(columns["rest"], expected, atol=1e-12)
    quantities = summaries({"CE": columns})["CE"]
    registered = {name: shown for name, (_, shown) in tokens.MEASURES.items()}
    *_, row = tables.measures({"CE": {"quantities": quantities}}, registered).rows
    assert row[:3] == ["probability of the rest", "CE", f"{np.mean(expected):.2f}"]


def test_summaries_are_of_all_tokens_and_histograms_of_models_share_their_edges():
    logits, target = batch_of(9, sentences=40)
    columns = {"few": columns_of(logits, target), "many": columns_of(2 * logits, target)}
    result = summaries(columns)
    for name in tokens.MEASURES:
        edges = [result[model][name]["histogram"]["bin_edges"] for model in columns]
        assert (edges[0] == edges[1]).all(), name
        for model in columns:
            summary, values = result[model][name], columns[model][name]
            assert summary["mean"] == pytest.approx(values.mean()), name
            assert summary["quantiles"]["0.25"] == pytest.approx(np.quantile(values, 0.25)), name
            assert edges[0][0] <= np.quantile(values, 0.005), name
            histogram = summary["histogram"]
            counted = histogram["tokens"].sum() + histogram["below"] + histogram["above"]
            assert counted == len(values), name
