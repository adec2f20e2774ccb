"""One run by scripts/train.sh and scripts/evaluate.sh, in small, with what can happen to it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, script, succeed, warmed
from small import MODEL

EXPERIMENT = """
title = "Small"
[corpus]
command = "true"
folder = "{corpus}"
[train]
options = "{options} --optimizer adam --lr 0.02 --max-tokens 60 --update-freq 2 --max-epoch 2 \
--num-workers 0 --log-interval 1 --required-batch-size-multiple 1"
[evaluate]
last = 2
"""


@pytest.fixture(scope="module")
def experiment(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("experiment") / "small.toml"
    path.write_text(EXPERIMENT.format(corpus=small, options=" ".join(MODEL)))
    return path


def start(*arguments, **environment):
    command = ["bash", ROOT / "scripts/train.sh", *arguments]
    return subprocess.Popen(
        **warmed(command, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(out):
    """Processes of fairseq-train that train in a run's folder together, by rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text().split("\0")
            if str(out / "checkpoints") in words and "--distributed-rank" in words:
                rank = int(words[words.index("--distributed-rank") + 1])
                found[rank] = int(path.parent.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by Linux's /proc")
def test_a_worker_that_dies_takes_the_training_down_and_the_same_command_resumes(
    experiment, tmp_path
):
    out = tmp_path / "run"
    arguments = [experiment, "el", "1", "--out", out, "--processes", "2"]
    with start(*arguments) as keeper:
        while not (out / "checkpoints" / "checkpoint1.pt").exists():
            assert keeper.poll() is None, keeper.stderr.read()
            time.sleep(0.02)
        os.kill(workers_of(out)[1], signal.SIGKILL)
        said = keeper.stderr.read().splitlines()
    assert keeper.returncode == 1
    assert "fairseq-train, process 1 failed: signal SIGKILL ended it" in said[-1]
    succeed(script("scripts/train.sh", *arguments))
    assert "training on 2 devices" in (out / "train.log").read_text()
    assert json.loads((out / "training.json").read_text())["minutes"] >= 0


def test_tasks_of_srun_train_one_run_and_not_each_its_own(experiment, tmp_path):
    out = tmp_path / "run"
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0"}
    tasks = [
        start(
            *(experiment, "ce", "1", "--out", out, "--", "--max-epoch", "1"),
            **step,
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
        )
        for rank in (0, 1)
    ]
    said = [task.communicate() for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    log = (out / "train.log").read_text()
    assert log.count("training on 2 devices") == 1
    assert "Loaded checkpoint" not in log
