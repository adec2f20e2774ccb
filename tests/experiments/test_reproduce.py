import argparse
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import plan, reproduce, results
from el_fairseq.experiments.plan import runs_of, visible_gpus
from el_fairseq.experiments.reproduce import duration, share_trained
from el_fairseq.runs.experiment import divided_update_freq, seed


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

    def call(*arguments, experiment="iwslt14-de-en"):
        words = [experiment, "--runs", tmp_path / "runs", "--dry-run", *arguments]
        monkeypatch.setattr(sys, "argv", ["reproduce", *map(str, words)])
        reproduce.main()
        assert not (tmp_path / "runs").exists()
        return capsys.readouterr().out.splitlines()

    return call


def trainings(lines):
    return [line for line in lines if "scripts/train.sh" in line]


def test_each_seed_is_run_with_every_criterion_and_log_end_before_the_next():
    runs = runs_of(["ce", "el"], [0.5, 1.0], [1, 2])
    assert [run.name for run in runs] == [
        *("ce-seed1", "el0.5-seed1", "el1.0-seed1"),
        *("ce-seed2", "el0.5-seed2", "el1.0-seed2"),
    ]


@pytest.mark.parametrize(
    ("options", "processes", "expected"),
    [
        (["--lr", "1", "--update-freq", "4"], 2, "2"),
        (["--update-freq=4,8"], 4, "1,2"),
        (["--update-freq", "4", "--update-freq", "6"], 3, "2"),
    ],
)
def test_several_gpus_of_one_run_share_the_batch(options, processes, expected):
    assert divided_update_freq(options, processes) == ["--update-freq", expected]


@pytest.mark.parametrize(
    ("options", "processes"),
    [(["--update-freq", "4"], 3), ([], 2), (["--update-freq", "many"], 2)],
)
def test_a_batch_that_cannot_be_shared_is_refused_with_what_to_do(options, processes):
    with pytest.raises(UserError, match=r"--update-freq is \w+, .*--gpus-per-run"):
        divided_update_freq(options, processes)


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
    assert lines[0] == f"cd {plan.ROOT}"
    assert lines[1].startswith("bash data-prep/iwslt14-de-en.sh --out ")
    archive = Path("a b.tgz").absolute()
    assert lines[1].endswith(f"--archive '{archive}'")
    assert lines[2] == "# 2 runs at a time, with CUDA_VISIBLE_DEVICES=0 | 1"
    assert len(trainings(lines)) == 2 * 3
    assert "iwslt14-de-en el 4 " in trainings(lines)[-1]
    assert trainings(lines)[-1].endswith("--log-end 0.75")
    assert sum(line.endswith(" --subset test --last 10") for line in lines) == 6
    assert sum("--best" in line for line in lines) == 6
    assert lines[-1].endswith(
        f"scripts/table.sh iwslt14-de-en --runs {tmp_path / 'runs'} --last 10"
    )
    assert lines[-2].endswith(f"scripts/report.sh {tmp_path / 'runs'}")


def test_the_experiments_own_defaults_are_taken(dry_run, gpus):
    gpus(0)
    lines = dry_run(experiment="home-assistant-de-en")
    assert lines[2] == "# 2 at a time, on the CPU"
    assert len(trainings(lines)) == 10


def test_one_run_on_several_gpus_gets_them_and_a_divided_update_freq(dry_run, gpus):
    gpus(5)
    lines = dry_run("--gpus-per-run", "2", "--seeds", "1", "--", "--dropout", "0")
    assert lines[2] == "# 2 runs at a time, with CUDA_VISIBLE_DEVICES=0,1 | 2,3"
    assert trainings(lines)[0].endswith(" --processes 2 -- --dropout 0 --update-freq 2")


def test_the_cpu_is_used_where_it_is_asked_for_although_there_is_a_gpu(dry_run, gpus):
    gpus(2)
    assert dry_run("--cpu")[2] == "# 1 at a time, on the CPU"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--gpus-per-run", "2"], "--gpus-per-run is 2, expected at most 1, the GPUs"),
        (["--gpus", "2"], "--gpus is 2, expected at most 1"),
        (["--nodes", "2"], "--nodes needs --slurm"),
        (["--last", "11"], "11 epoch checkpoints are to be averaged, but --keep-last-epochs is 10"),
        (["--last", "4", "--", "--max-epoch", "3"], "but --max-epoch is 3: lower --last to 3"),
        (["--", "--no-epoch-checkpoints"], "but --no-epoch-checkpoints keeps none"),
        (["--slurm", "--gpus-per-run", "4", "--gpus", "2"], "--gpus is 2, expected at least 4"),
        (["--task", "99"], "--task is 99, expected 0 to 9"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(dry_run, gpus, arguments, reason):
    gpus(1)
    with pytest.raises(UserError) as caught:
        dry_run(*arguments)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--seeds", "1,1"], "1,1 names one twice"),
        (["--seeds", "one"], "'one', expected a list, with commas, of a whole number"),
        (["--seeds=-1"], "'-1', expected a list"),
        (["--criteria", "ce,xx"], "'ce,xx', expected a list, with commas, of ce or el"),
        (["--log-ends", "0.5,1.5"], "of a number in (0, 1]"),
        (["--log-ends", "0.5,0.50"], "names one twice"),
        (["--gpus", "0"], "'0', expected a whole number from 1"),
        (["--task", "-1"], "expected a whole number from 0"),
        (["--sbatch", "'"], "options with closed quotes"),
        (["--nonsense"], "unrecognized"),
    ],
)
def test_a_wrong_argument_is_named(dry_run, capsys, arguments, reason):
    with pytest.raises(SystemExit) as caught:
        dry_run(*arguments)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_options_for_sbatch_may_be_one_or_several():
    for text, words in (("--time=1:00", ["--time=1:00"]), ("-p x -t 1", ["-p", "x", "-t", "1"])):
        arguments = reproduce.with_sbatch_options(["mine", "--sbatch", text, "--cpu"])
        options = reproduce.parser().parse_args(arguments)
        assert options.sbatch == words and options.cpu


def test_lists_are_read_in_the_order_given():
    assert reproduce.comma_list(seed, "a seed")("3,1,2") == [3, 1, 2]
    with pytest.raises(argparse.ArgumentTypeError):
        reproduce.comma_list(seed, "a seed")("")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "1 min"), (600, "10 min"), (7200, "2 hours"), (40 * 86400, "40 days")],
)
def test_durations_are_said_in_a_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def log_progress(folder, updates, epochs):
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"epoch": 1, "update": epochs, "num_updates": updates, "loss": "3"}
    record = f"2026 | INFO | train_inner | {json.dumps(numbers)}\n"
    (folder / "train.log").write_text(f"started\n{record}2026 | INFO | some | other line\n")


def test_a_training_knows_its_share_by_updates_or_epochs(tmp_path):
    assert share_trained(tmp_path, ["--max-update", "100"]) == 0
    log_progress(tmp_path, 30, 2.5)
    assert share_trained(tmp_path, ["--max-update", "100"]) == 0.3
    assert share_trained(tmp_path, ["--max-update", "100", "--max-epoch", "5"]) == 0.5
    assert share_trained(tmp_path, []) == 0
    (tmp_path / "training.json").write_text("{}")
    assert share_trained(tmp_path, []) == 1


@pytest.fixture
def small_plan(tmp_path):
    words = ["home-assistant-de-en", "--runs", str(tmp_path), "--seeds", "1,2", "--cpu"]
    options = [*words, "--data", str(tmp_path / "none")]
    return plan.Plan(reproduce.parser().parse_args(options), ["--max-update", "100"])


def finish(folder, plan):
    for kind in results.kinds_of_checkpoints(plan.experiment):
        evaluation = folder / "evaluation" / f"test-{kind}"
        evaluation.mkdir(parents=True)
        (evaluation / "scores.json").write_text("{}")
    (folder / "training.json").write_text('{"minutes": 6}')


def test_what_is_left_to_do_is_said_with_what_is_done(small_plan, tmp_path):
    assert reproduce.what_is_left(small_plan).endswith(
        f"4 runs in {tmp_path}, 0 done, to do: ce-seed1, el0.5-seed1, ce-seed2, el0.5-seed2"
    )
    finish(tmp_path / "ce-seed1", small_plan)
    left = reproduce.what_is_left(small_plan)
    assert "1 done (6 min of training so far), to do: el0.5-seed1, ce-seed2" in left


def test_the_whole_experiments_progress_is_told_with_the_time_that_is_left(small_plan, tmp_path):
    finish(tmp_path / "ce-seed1", small_plan)
    progress = reproduce.Progress(small_plan)
    progress.before = progress.trained()
    assert progress.line(60) == "home-assistant-de-en: 1 of 4 runs done"
    log_progress(tmp_path / "el0.5-seed1", 50, 1)
    # Half a run in ten minutes: two and a half are left.
    assert progress.line(600) == "home-assistant-de-en: 1 of 4 runs done, about 50 min left"


def test_a_made_for_gpu_experiment_does_not_start_on_a_cpu_unasked(monkeypatch, gpus, tmp_path):
    gpus(0)
    words = ["iwslt14-de-en", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["reproduce", *words])
    with pytest.raises(UserError, match=r"no GPU here, and the 10 trainings .* add --cpu"):
        reproduce.main()
    assert not (tmp_path / "runs").exists()


def test_without_torch_the_driver_counts_the_gpus(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "GPU 0: x"\necho "  MIG 1g"\necho "GPU 1: x"\n')
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus(None) == ["0", "1"]
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus(None) == []
