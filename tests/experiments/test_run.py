import argparse
import json
import sys

import pytest
import torch

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import results, run
from el_fairseq.experiments.run import duration, share_trained
from el_fairseq.experiments.train import seed


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
        words[3:3] = [] if "--data" in arguments else ["--data", tmp_path / "none"]
        monkeypatch.setattr(sys, "argv", ["reproduce", *map(str, words)])
        run.main()
        assert not (tmp_path / "runs").exists()
        return capsys.readouterr().out.splitlines()

    return call


def trainings(lines):
    return [line for line in lines if "scripts/train.sh" in line]


def test_each_seed_is_run_with_every_loss_before_the_next(dry_run, gpus):
    gpus(1)
    lines = trainings(dry_run("--seeds", "1,2"))
    assert [line.split("/")[-1] for line in lines] == [
        *("ce-seed1", "el-seed1", "ce-seed2", "el-seed2"),
    ]
    assert len(trainings(dry_run("--seeds", "3", "--losses", "el"))) == 1


def test_a_dry_run_prints_what_will_be_run_fairseqs_own_command_included(dry_run, gpus):
    gpus(0)
    lines = dry_run("--seeds", "1", "--gpus", "4", "--gpus-per-run", "2", "--", "--dropout", "0")
    assert lines[1].startswith("bash data-prep/iwslt14-de-en.sh --out ")
    assert lines[2] == "# 2 at a time, with CUDA_VISIBLE_DEVICES=0,1 | 2,3"
    assert trainings(lines)[0].endswith(" --gpus-per-run 2 -- --dropout 0")
    worker = next(line for line in lines if "experiments.worker" in line)
    for words in (
        "--source-lang de --target-lang en",
        "--fp16 --distributed-world-size 2 --load-checkpoint-on-all-dp-ranks",
        "--criterion label_smoothed_cross_entropy --dropout 0 --report-accuracy --update-freq 2",
    ):
        assert words in worker


def test_a_dry_run_lists_every_test_set_also_before_the_corpus_is_there(dry_run, gpus, tmp_path):
    gpus(0)
    (tmp_path / "mine.toml").write_text("""
title = "Mine"
corpus.command = "bash data-prep/parallel-text.sh --source de --target fr --test a=x --test b=y"
train.options = "--arch transformer --max-epoch 9"
evaluate.last = 2
runs.cpu = true
""")
    lines = dry_run("--seeds", "1", experiment=tmp_path / "mine.toml")
    for test in ("a", "b"):
        assert sum(f"--last 2 --subset {test}" in line for line in lines) == 2
    assert any("--source-lang de --target-lang fr" in line for line in lines)


def test_runs_side_by_side_on_gpus_have_one_each(dry_run, gpus):
    gpus(3, "2,5,7")
    assert dry_run()[2] == "# 3 at a time, with CUDA_VISIBLE_DEVICES=2 | 5 | 7"
    assert dry_run("--gpus", "2")[2] == "# 2 at a time, with CUDA_VISIBLE_DEVICES=2 | 5"
    assert dry_run("--cpu")[2] == "# 1 at a time, on the CPU"


def test_on_a_cpu_the_experiments_own_jobs_are_taken(dry_run, gpus):
    gpus(0)
    assert dry_run(experiment="home-assistant-fr-en")[2] == "# 2 at a time, on the CPU"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--gpus-per-run", "2"], "--gpus-per-run is 2, expected at most 1, the GPUs"),
        (["--cpu", "--gpus-per-run", "2"], "--cpu trains in one process"),
        (["--last", "11"], "11 epoch checkpoints are to be averaged, but --keep-last-epochs is 10"),
        (["--last", "4", "--", "--max-epoch", "3"], "but --max-epoch is 3: lower --last to 3"),
        (["--losses", "ce,xx"], "there is no loss xx in iwslt14-de-en: name one of CE, EL"),
        (["--", "--seed", "7"], "--seed in the options after -- is refused"),
        (["--", "--lrr", "7"], "unrecognized arguments: --lrr 7"),
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
        (["--seeds", "one"], "'one', expected a list, with commas, of whole numbers"),
        (["--seeds=-1"], "'-1', expected a list"),
        (["--losses", "ce,ce"], "names one twice"),
        (["--gpus", "0"], "'0', expected a whole number from 1"),
        (["--task", "-1"], "expected a whole number from 0"),
        (["--criteria", "ce"], "unrecognized"),
        (["--slurm"], "unrecognized"),
    ],
)
def test_a_wrong_argument_is_named(dry_run, capsys, arguments, reason):
    with pytest.raises(SystemExit) as caught:
        dry_run(*arguments)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_lists_are_read_in_the_order_given():
    assert run.comma_list(seed, "a seed")("3,1,2") == [3, 1, 2]
    with pytest.raises(argparse.ArgumentTypeError):
        run.comma_list(seed, "a seed")("")


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


@pytest.fixture
def small_plan(tmp_path, small):
    words = ["home-assistant-fr-en", "--runs", str(tmp_path), "--seeds", "1,2", "--cpu"]
    options = [*words, "--data", str(small)]
    return run.Plan(run.parser().parse_args(options), ["--max-update", "100", "--max-epoch", "90"])


def finish(a_run, plan):
    for kind in results.kinds_of_checkpoints(plan.experiment):
        evaluation = a_run.folder / "evaluation" / f"test-{kind}"
        evaluation.mkdir(parents=True)
        (evaluation / "scores.json").write_text("{}")
    (a_run.folder / "training.json").write_text('{"minutes": 6}')


def test_a_training_knows_its_share_by_updates_or_epochs(small_plan):
    a_run = small_plan.runs[0]
    assert share_trained(a_run) == 0
    log_progress(a_run.folder, 30, 2.5)
    assert share_trained(a_run) == 0.3
    log_progress(a_run.folder, 30, 45)
    assert share_trained(a_run) == 0.5
    (a_run.folder / "training.json").write_text("{}")
    assert share_trained(a_run) == 1


def test_what_is_left_to_do_is_said_with_what_is_done(small_plan, tmp_path):
    assert run.what_is_left(small_plan).endswith(
        f"4 runs in {tmp_path}, 0 done, to do: ce-seed1, el-seed1, ce-seed2, el-seed2"
    )
    finish(small_plan.runs[0], small_plan)
    left = run.what_is_left(small_plan)
    assert "1 done (6 min of training so far), to do: el-seed1, ce-seed2" in left


def test_the_whole_experiments_progress_is_told_with_the_time_that_is_left(small_plan, monkeypatch):
    finish(small_plan.runs[0], small_plan)
    now = [0.0]
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    progress = run.Progress(small_plan)
    now[0] = 600
    assert progress.line() == "home-assistant-fr-en: 1 of 4 runs done"
    log_progress(small_plan.runs[1].folder, 50, 1)
    # Half a run in ten minutes: two and a half are left.
    assert progress.line() == "home-assistant-fr-en: 1 of 4 runs done, about 50 min left"


def test_a_run_that_fails_is_told_and_the_others_are_brought_to_their_end(small_plan, monkeypatch):
    done = []

    def train_and_score(plan, a_run):
        if a_run.name == "el-seed1":
            raise UserError("a full disk")
        done.append(a_run.name)

    monkeypatch.setattr(run, "train_and_score", train_and_score)
    with pytest.raises(UserError, match=r"1 of 4 runs did not end well.*\nel-seed1: a full disk"):
        run.execute(small_plan)
    assert sorted(done) == ["ce-seed1", "ce-seed2", "el-seed2"]


def test_a_task_trains_one_run_and_needs_the_corpus(small_plan, monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(run, "train_and_score", lambda plan, a_run: done.append(a_run.name))
    run.task(small_plan, 2)
    assert done == ["ce-seed2"]
    with pytest.raises(UserError, match="--task is 4, expected 0 to 3"):
        run.task(small_plan, 4)
    small_plan.data = tmp_path / "none"
    with pytest.raises(UserError, match="prepare it before the tasks: bash data-prep/home"):
        run.task(small_plan, 0)


def test_a_made_for_gpu_experiment_does_not_start_on_a_cpu_unasked(monkeypatch, gpus, tmp_path):
    gpus(0)
    words = ["iwslt14-de-en", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["reproduce", *words])
    with pytest.raises(UserError, match=r"no GPU here, and the 10 trainings .* add --cpu"):
        run.main()
    assert not (tmp_path / "runs").exists()
