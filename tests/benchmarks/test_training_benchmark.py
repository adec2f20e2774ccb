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
    for command, reason in (
        (["sh", "-c", "echo a reason; exit 3"], "ended with status 3, see .*log: a reason"),
        (logging([1]), "log has fewer than two records of training: raise --updates"),
    ):
        with pytest.raises(UserError, match=reason):
            training.train(command, tmp_path / "log")


def test_the_table_compares_medians():
    table = training.table({"ce": [1000, 1100, 1200], "el": [2200, 2200]})
    ce, el = table.rows
    assert ce == ["ce", "1100 (1000 to 1200)", "1.000"]
    assert el == ["el", "2200 (2200 to 2200)", "0.500"]


def test_the_trainings_take_turns_and_leave_logs_beside_what_is_there(
    small, tmp_path, monkeypatch, capsys
):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["", *map(str, arguments)])
        training.main()

    with pytest.raises(UserError, match="nowhere has no bin/: name a corpus made by data-prep/"):
        call("--data", "nowhere", "--out", tmp_path / "out")
    (tmp_path / "thesis.log").write_text("years of work")
    call(
        *("--rounds", "1", "--updates", "20", "--data", small, "--out", tmp_path),
        *("--", "--max-tokens", "60", *words_of(transformer(8))),
    )
    assert {path.name for path in tmp_path.iterdir()} == {"ce-1.log", "el-1.log", "thesis.log"}
    assert (tmp_path / "thesis.log").read_text() == "years of work"
    assert "| el " in capsys.readouterr().out
