"""The benchmark of trainings: their speeds, and its table."""

import json
import sys

import pytest
from sizes import transformer, words_of

from el_fairseq.benchmarks import training
from el_fairseq.common.cli import UserError


def logging(speeds):
    """A command that logs records with these words per second."""
    lines = ["something else"] + [
        f"2026-01-01 00:00:00 | INFO | train_inner | {json.dumps({'epoch': 1, 'wps': str(speed)})}"
        for speed in speeds
    ]
    return ["printf", "%s\\n", *lines]


def test_a_trainings_speed_is_the_median_without_the_first_record(tmp_path):
    assert training.train(logging([1, 1000, 1200, 1300]), tmp_path / "log") == 1200


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sh", "-c", "exit 3"], "ended with status 3, see .*log: it said nothing"),
        (["sh", "-c", "echo no; echo; exit 1"], "ended with status 1, see .*log: no$"),
        (logging([1]), "log has fewer than two records of training"),
    ],
)
def test_a_training_without_a_speed_is_told(tmp_path, command, reason):
    with pytest.raises(UserError, match=reason):
        training.train(command, tmp_path / "log")


def test_the_table_compares_medians():
    table = training.table({"ce": [1000, 1100, 1200], "el": [2200, 2200]})
    ce, el = table.rows
    assert ce == ["ce", "1100 (1000 to 1200)", "1.000"]
    assert el == ["el", "2200 (2200 to 2200)", "0.500"]


@pytest.fixture
def call(monkeypatch):
    """Calls the benchmark in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["", *map(str, arguments)])
        training.main()

    return call


def test_the_trainings_take_turns_and_leave_logs_beside_what_is_there(
    call, small, tmp_path, capsys
):
    (tmp_path / "thesis.log").write_text("years of work")
    call(
        *("--rounds", "1", "--updates", "20", "--data", small, "--out", tmp_path),
        *("--", "--max-tokens", "60", *words_of(transformer(8))),
    )
    assert {path.name for path in tmp_path.iterdir()} == {"ce-1.log", "el-1.log", "thesis.log"}
    assert (tmp_path / "thesis.log").read_text() == "years of work"
    assert "| el " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "."], ". has no bin/: name a corpus made by data-prep/"),
        (["--rounds", "0"], "'0', expected a whole number from 1"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_made(call, arguments, reason, tmp_path, capsys):
    with pytest.raises((UserError, SystemExit)) as end:
        call("--out", tmp_path / "out", *arguments)
    assert reason in f"{capsys.readouterr().err}{end.value}"
    assert not (tmp_path / "out").exists()
