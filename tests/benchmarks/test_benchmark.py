"""The benchmark: what it measures, and what it says about it. No test looks at a time."""

import pytest
import torch
import torch.nn.functional as F

from el_fairseq.benchmarks import loss as benchmark


def test_all_contenders_compute_what_their_names_say():
    torch.manual_seed(1)
    logits = torch.randn(20, 30, requires_grad=True)
    target = torch.randint(2, 30, (20,))
    values = {
        name: contender(logits.clone(), target).item()
        for name, contender in benchmark.loss_contenders().items()
    }
    literal = values["EL, literal formula"]
    assert values["EL, `encouraging_loss`"] == pytest.approx(literal / 20)
    assert values["EL in place, as in training"] == pytest.approx(literal)
    assert values["`F.cross_entropy`"] > literal / 20
    assert len(values) == 6


def test_the_projections_agree_but_for_the_bonus():
    hidden, weight = torch.randn(20, 4), torch.randn(30, 4)
    target = torch.randint(2, 30, (20,))
    values = [f(hidden, weight, target).item() for f in benchmark.projection_contenders().values()]
    baseline, ours, torchs = values
    not_smoothed = F.cross_entropy(F.linear(hidden, weight), target).item()
    assert torchs == pytest.approx(not_smoothed, rel=1e-4)
    assert ours < baseline


def test_peak_memory_counts_what_was_there_and_is_gone():
    cpu = torch.device("cpu")
    assert 120 << 20 < benchmark.peak_memory(lambda: torch.ones(32 << 20), cpu) < 200 << 20
    assert benchmark.peak_memory(lambda: None, cpu) < 64 << 20


def test_a_contender_that_overwrites_its_input_leaves_the_others_the_same_numbers():
    logits = torch.randn(4, 5, requires_grad=True)
    seen = []

    def overwriting(x, _):
        seen.append(x.detach().clone())
        x.data.zero_()
        return F.relu(x * 0 + 1).sum() + (x * 1).sum()

    benchmark.measure({"a": overwriting, "b": overwriting}, (logits, None), repeats=2)
    assert len(seen) == 6
    assert all(torch.equal(x, seen[0]) for x in seen)


def test_a_loss_alone_is_timed_without_a_gradient():
    inputs, seen = (torch.zeros(4, 5, requires_grad=True), torch.zeros(4)), []
    contenders = {"a": lambda x, _: seen.append(x.requires_grad) or x.sum()}
    for step in ("forward", "training"):
        benchmark.measure(contenders, inputs, repeats=1, step=benchmark.STEPS[step])
    assert seen == [False, False, True, True]


def test_the_command_prints_a_table_for_logits_and_one_for_projections(call, capsys):
    few = "--shapes", "40x50", "--projections", "40x8x50", "--repeats", "2"
    call(benchmark.main, *few, "--threads", "1", "--literal")
    shown = capsys.readouterr().out
    assert "2 repetitions" in shown
    for first in ("| 40 x 50 ", "| 40 x 8 x 50 "):
        (row,) = [line for line in shown.splitlines() if line.startswith(first)]
        assert " ms, " in row and row.count("MiB") == row.count("|") - 3
    for how in ("--after-matmul", "--time=forward"):
        call(benchmark.main, "--shapes", "300x4000", "--projections", "--repeats", "1", how)
        assert "| 300 x 4000 " in capsys.readouterr().out
    for option, value, reason in (
        ("--shapes", "40", "'40', expected 2 whole numbers"),
        ("--projections", "40x1x9", "'40x1x9', expected 3 whole numbers above 2"),
        ("--device=cpu", "--warps=4", "are for a GPU"),
    ):
        with pytest.raises(SystemExit):
            call(benchmark.main, option, value)
        assert reason in capsys.readouterr().err
