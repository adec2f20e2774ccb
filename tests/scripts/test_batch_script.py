"""``scripts/slurm.sh`` as Slurm starts it, with stand-ins for the experiment and for scontrol."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import ROOT


@pytest.fixture
def job(tmp_path):
    """Starts the job's shell in a repository whose ``reproduce.sh`` is the text given."""

    def start(reproduce):
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts" / "reproduce.sh").write_text(reproduce)
        (tmp_path / "scontrol").write_text("#!/bin/sh\necho scontrol $*\n")
        (tmp_path / "scontrol").chmod(0o755)
        spooled = shutil.copy(ROOT / "scripts" / "slurm.sh", tmp_path / "slurm_script")
        slurm = {"SLURM_SUBMIT_DIR": tmp_path, "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "17"}
        return subprocess.Popen(
            ["bash", spooled, "--last", "1"],
            env={**os.environ, **slurm, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize(("status", "requeued"), [(0, ""), (1, ""), (75, "scontrol requeue 17\n")])
def test_a_task_is_requeued_where_it_stopped_to_go_on(job, status, requeued):
    process = job(f'echo "$*"; exit {status}')
    asked = "iwslt14-de-en --task 3 --last 1\n"
    assert process.communicate(timeout=60)[0] == asked + requeued
    assert process.returncode == status


@pytest.mark.parametrize("status", [0, 75])
def test_slurms_warnings_reach_the_training_whose_end_is_waited_for(job, tmp_path, status):
    process = job(
        "trap 'echo warned; touch warned; warned=$((warned + 1))' USR1; warned=0; touch ready\n"
        f"while [ $warned -lt 2 ]; do sleep 0.05; done; sleep 0.2; exit {status}"
    )
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGUSR1)
    wait_for(tmp_path / "warned")
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == status and said.startswith("warned\nwarned\n")
    assert ("requeue" in said) == (status == 75)


def wait_for(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
