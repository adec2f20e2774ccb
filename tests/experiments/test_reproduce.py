import argparse
import json
import sys

import pytest
import torch

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import reproduce
from el_fairseq.experiments.reproduce import (
    distributed_options,
    duration,
    numbers,
    runs_of,
    visible_gpus,
)


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch sees so many GPUs."""

    def see(count, environment=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        if environment is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environment)

    return see


@pytest.fixture
def dry_run(monkeypatch, capsys, tmp_path):
    """Lines that ``reproduce.sh iwslt14-de-en --dry-run`` prints with more arguments."""

    def call(*arguments):
        words = ["iwslt14-de-en", "--runs", tmp_path, "--dry-run", *arguments]
        monkeypatch.setattr(sys, "argv", ["reproduce", *map(str, words)])
        reproduce.main()
        assert list(tmp_path.iterdir()) == []
        return capsys.readouterr().out.splitlines()

    return call


def test_each_seed_is_run_with_every_criterion_and_log_end_before_the_next():
    runs = runs_of(["ce", "el"], [0.5, 1.0], [1, 2])
    assert [run.name for run in runs] == [
        *("ce-seed1", "el0.5-seed1", "el1.0-seed1"),
        *("ce-seed2", "el0.5-seed2", "el1.0-seed2"),
    ]


@pytest.mark.parametrize(
    ("frequency", "gpus", "expected"),
    [
        (["--update-freq", "4"], 1, []),
        (["--update-freq", "4"], 2, ["--distributed-world-size", "2", "--update-freq", "2"]),
        (["--update-freq=4,8"], 4, ["--distributed-world-size", "4", "--update-freq", "1,2"]),
        ([], 1, []),
    ],
)
def test_several_gpus_of_one_run_share_the_batch(frequency, gpus, expected):
    assert distributed_options(["--lr", "1", *frequency], gpus) == expected


@pytest.mark.parametrize(("frequency", "gpus"), [(["--update-freq", "4"], 3), ([], 2)])
def test_a_batch_that_cannot_be_shared_is_refused_with_what_to_do(frequency, gpus):
    with pytest.raises(UserError, match=r"--update-freq is \d, .*--gpus-per-run"):
        distributed_options(frequency, gpus)


def test_all_gpus_are_used_or_the_first_few(gpus):
    gpus(3)
    assert visible_gpus(None) == ["0", "1", "2"]
    assert visible_gpus(2) == ["0", "1"]
    gpus(2, "5,7")
    assert visible_gpus(None) == ["5", "7"]
    with pytest.raises(UserError, match="--gpus is 3, expected at most 2"):
        visible_gpus(3)
    gpus(0)
    assert visible_gpus(None) == []


def test_a_dry_run_prints_every_command_and_does_nothing(dry_run, gpus, tmp_path):
    gpus(2)
    lines = dry_run("--seeds", "3,4", "--log-ends", "0.5,0.75", "--archive", "a b.tgz")
    assert "data-prep/iwslt14-de-en.sh --out" in lines[0] and "--archive 'a b.tgz'" in lines[0]
    assert lines[1] == "# 2 runs at a time, with CUDA_VISIBLE_DEVICES=0 | 1"
    train = [line for line in lines if "scripts/train.sh" in line]
    assert len(train) == 2 * 3
    assert "iwslt14-de-en el 4 " in train[-1] and train[-1].endswith("--log-end 0.75")
    assert sum("--last 10" in line for line in lines) == 6
    assert sum("--best" in line for line in lines) == 6
    assert lines[-2].endswith(f"scripts/table.sh iwslt14-de-en --runs {tmp_path}")
    assert lines[-1].endswith(f"scripts/report.sh {tmp_path}")


def test_one_run_on_several_gpus_gets_them_and_a_divided_update_freq(dry_run, gpus):
    gpus(5)
    lines = dry_run("--gpus-per-run", "2", "--seeds", "1", "--", "--dropout", "0")
    assert lines[1] == "# 2 runs at a time, with CUDA_VISIBLE_DEVICES=0,1 | 2,3"
    train = [line for line in lines if "scripts/train.sh" in line]
    assert train[0].endswith(" -- --dropout 0 --distributed-world-size 2 --update-freq 2")


def test_the_cpu_is_used_where_it_is_asked_for_although_there_is_a_gpu(dry_run, gpus):
    gpus(2)
    assert dry_run("--cpu")[1] == "# 1 at a time, on the CPU"


def test_more_gpus_a_run_than_there_are_is_refused(dry_run, gpus):
    gpus(1)
    with pytest.raises(UserError, match="--gpus-per-run is 2, expected at most the 1"):
        dry_run("--gpus-per-run", "2")


def test_the_slurm_job_has_a_task_for_each_run_and_is_put_back_when_preempted(dry_run, gpus):
    gpus(0)
    lines = dry_run("--slurm", "--gpus-per-run", "2", "--seeds", "1,2", "--", "--dropout", "0")
    job = lines[lines.index("#!/usr/bin/env bash") :]
    for option in ("--array=0-3", "--gres=gpu:2", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {option}" in job
    assert "--slurm" not in job[-1] and "--dry-run" not in job[-1]
    assert job[-1].endswith('--task "$SLURM_ARRAY_TASK_ID" -- --dropout 0')


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--seeds", "1,1"], "1,1 names one twice"),
        (["--seeds", "one"], "int list"),
        (["--criteria", "ce,xx"], "criterion list"),
        (["--gpus", "0"], "positive"),
        (["--nonsense"], "unrecognized"),
    ],
)
def test_a_wrong_argument_is_named(dry_run, capsys, arguments, reason):
    with pytest.raises(SystemExit) as caught:
        dry_run(*arguments)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_log_end_outside_its_range_is_refused(dry_run):
    with pytest.raises(UserError, match=r"log_end is 1\.5"):
        dry_run("--log-ends", "0.5,1.5")


def test_lists_are_read_in_the_order_given():
    assert numbers(int)("3,1,2") == [3, 1, 2]
    with pytest.raises(argparse.ArgumentTypeError):
        numbers(float)("0.5,0.50")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "1 minutes"), (600, "10 minutes"), (7200, "2 hours"), (40 * 86400, "40 days")],
)
def test_durations_are_said_in_a_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def finished_run(folder, name, criterion, bleu):
    """A run's folder as train.sh and evaluate.sh leave it, without checkpoints."""
    run = folder / name
    for model in ("averaged10", "best"):
        evaluation = run / "evaluation" / f"test-{model}"
        evaluation.mkdir(parents=True)
        (evaluation / "scores.json").write_text(json.dumps({"bleu": bleu}))
    log_end = None if criterion == "ce" else 0.5
    record = {"criterion": criterion, "log_end": log_end, "seed": 1}
    (run / "run.json").write_text(json.dumps(record))
    (run / "training.json").write_text(json.dumps({"updates": 5, "minutes": 1.0}))
    numbers = {"epoch": 1, "valid_nll_loss": "2.0", "valid_accuracy": "50"}
    (run / "train.log").write_text(f"2026 | INFO | valid | {json.dumps(numbers)}\n")


def test_results_hold_a_record_for_each_run_that_is_finished(tmp_path):
    finished_run(tmp_path, "ce-seed1", "ce", 30.0)
    finished_run(tmp_path, "el0.5-seed1", "el", 31.0)
    finished_run(tmp_path, "el0.5-seed2", "el", 32.0)
    (tmp_path / "el0.5-seed2" / "evaluation" / "test-best" / "scores.json").unlink()
    plan = argparse.Namespace(folder=tmp_path, last=10)
    reproduce.gather(plan)
    records = json.loads((tmp_path / "results.json").read_text())
    assert [record["run"] for record in records] == ["ce-seed1", "el0.5-seed1"]
    assert records[1]["bleu"] == 31.0 and records[1]["best"] == {"bleu": 31.0}
    assert records[1]["averaged"] == 10


def test_an_experiment_is_worked_on_by_one_start_at_a_time(tmp_path):
    plan = argparse.Namespace(folder=tmp_path / "new")
    with reproduce.claim(plan), pytest.raises(UserError, match="being worked on by another"):
        reproduce.claim(plan)
    reproduce.claim(plan).close()
