"""The benchmark of trainings: their speeds, and its table."""

import json

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
        (["sh", "-c", "echo a reason; exit 3"], "fairseq-train failed: a reason .*log"),
        (logging([1]), "log has fewer than two records of training: raise --updates"),
    ):
        with pytest.raises(UserError, match=reason):
            training.train(command, tmp_path / "log")


def test_the_trainings_take_turns_and_leave_logs_beside_what_is_there(
    small, tmp_path, call, capsys
):
    with pytest.raises(UserError, match=r"there is no nowhere/manifest\.json: prepare the corpus"):
        call(training.main, "--data", "nowhere", "--out", tmp_path / "out")
    (tmp_path / "thesis.log").write_text("years of work")
    call(
        *(training.main, "--rounds", "1", "--updates", "20", "--data", small, "--out", tmp_path),
        *("--", "--max-tokens", "60", *words_of(transformer(8))),
    )
    assert {path.name for path in tmp_path.iterdir()} == {"ce-1.log", "el-1.log", "thesis.log"}
    assert (tmp_path / "thesis.log").read_text() == "years of work"
    ce, el = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:4]]
    speeds = [float(row[2].split()[0]) for row in (ce, el)]
    assert float(el[3]) == pytest.approx(speeds[0] / speeds[1], rel=0.01)
