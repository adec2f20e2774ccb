"""The benchmark: what it measures, and what it says about it. No test looks at a time."""

import json
import sys

import pytest
import torch
import torch.nn.functional as F

from el_fairseq.benchmarks import loss as benchmark
from el_fairseq.benchmarks.loss import PeakMemory
from el_fairseq.common.cli import UserError

CPU = torch.device("cpu")


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
    assert len(values) == 5


def test_the_projections_agree_but_for_the_bonus():
    hidden, weight = torch.randn(20, 4), torch.randn(30, 4)
    target = torch.randint(2, 30, (20,))
    values = [f(hidden, weight, target).item() for f in benchmark.projection_contenders().values()]
    baseline, ours, torchs = values
    not_smoothed = F.cross_entropy(F.linear(hidden, weight), target).item()
    assert torchs == pytest.approx(not_smoothed, rel=1e-4)
    assert ours < baseline


def test_peak_memory_counts_what_was_there_and_is_gone():
    peak = PeakMemory(CPU)
    tensor = torch.ones(32 << 20)  # 128 MiB
    del tensor
    assert 120 << 20 < peak.bytes() < 200 << 20
    assert PeakMemory(CPU).bytes() < 64 << 20


def test_the_loss_keeps_nothing_of_the_logits_size_but_the_gradient():
    logits = torch.randn(2000, 16000, requires_grad=True)  # 122 MiB
    target = torch.randint(2, 16000, (2000,))
    _, peaks = benchmark.measure(
        benchmark.loss_contenders(), lambda: (logits, target), 1, CPU, repeats=0
    )
    size = logits.numel() * 4
    assert peaks["EL in place, as in training"] < 0.3 * size
    assert peaks["EL, `encouraging_loss`"] < 1.3 * size
    assert peaks["EL, `encouraging_loss`"] < 0.67 * peaks["`F.cross_entropy`"]


def test_the_fused_projection_keeps_less_than_the_logits():
    hidden = torch.randn(8000, 32, requires_grad=True)
    weight = torch.randn(16000, 32, requires_grad=True)  # logits: 488 MiB
    target = torch.randint(2, 16000, (8000,))
    contenders = benchmark.projection_contenders(slow=False)
    _, peaks = benchmark.measure(contenders, lambda: (hidden, weight, target), 2, CPU, repeats=0)
    assert peaks["EL, `linear_encouraging_loss`"] < 8000 * 16000 * 4 * 0.5
    assert peaks["EL, `linear_encouraging_loss`"] < 0.2 * peaks["`F.linear` + `F.cross_entropy`"]


def test_a_contender_that_overwrites_its_input_leaves_the_others_the_same_numbers():
    logits = torch.randn(4, 5, requires_grad=True)
    seen = []

    def overwriting(x):
        seen.append(x.detach().clone())
        x.data.zero_()
        return F.relu(x * 0 + 1).sum() + (x * 1).sum()

    benchmark.measure({"a": overwriting, "b": overwriting}, lambda: (logits,), 1, CPU, repeats=2)
    assert len(seen) == 6
    assert all(torch.equal(x, seen[0]) for x in seen)


@pytest.fixture
def call(monkeypatch):
    """Calls the command in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["", *map(str, arguments)])
        benchmark.main()

    return call


def test_the_command_prints_a_table_and_writes_the_figures(call, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    call(
        *("--shapes", "40x50", "--projections", "40x8x50", "--repeats", "2", "--threads", "1"),
        *("--json", figures),
    )
    shown = capsys.readouterr().out
    records = json.loads(figures.read_text())["records"]
    assert [record["time_ratio"] for record in records if "F.cross" in record["what"]] == [1, 1]
    for record in records:
        line = f"| {record['shape']} | {record['threads']} | "
        assert f" | {record['what']} |" in shown
        assert line in shown
    assert "2 repetitions" in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--shapes", "40"], "size '40', expected 2 whole numbers"),
        (["--projections", "40x1x9"], "size '40x1x9', expected 3 whole numbers above 2"),
        (["--device", "foo"], "--device foo: Expected one of cpu, cuda"),
        (["--repeats", "0"], "--repeats and --threads must be 1 or more"),
    ],
)
def test_a_wrong_call_gets_one_line(call, arguments, reason):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
