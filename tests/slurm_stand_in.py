"""Stand-ins for sbatch, srun, squeue and scontrol that run the tasks of an array here.

Task N gets Slurm's signal before its time limit once the file exists that the file ``limit-N``
beside them names.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NUMBER = "4711"


def install(folder):
    """Make the programs in a new folder; returns environment variables that find them first."""
    folder.mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol"):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "STAND_IN": str(folder)}


def sbatch(arguments):
    folder = Path(os.environ["STAND_IN"])
    with (folder / "asked").open("a") as asked:
        print(shlex.join(arguments), file=asked)
    script = arguments[-1]
    lines = Path(script).read_text().splitlines()
    words = [w for line in lines if line.startswith("#SBATCH ") for w in shlex.split(line)[1:]]
    options = dict(word.lstrip("-").partition("=")[::2] for word in words)
    tasks = options.get("array", "").partition("%")[0]
    with ThreadPoolExecutor(2) as pool:
        for task in tasks.split(","):
            pool.submit(run_task, folder, script, options["output"], task)
    print(f"{NUMBER};cluster")


def run_task(folder, script, output, task):
    number = f"{NUMBER}_{task}" if task else "4712"
    for pattern, text in (("%A", NUMBER), ("%a", task), ("%j", number)):
        output = output.replace(pattern, text)
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": task, "SLURM_JOB_ID": number}
    requeued = folder / f"requeued-{number}"
    while True:
        with Path(output).open("a") as log:
            job = subprocess.Popen(["bash", script], env=environment, stdout=log, stderr=log)
            warn_of_limit(folder / f"limit-{task}", job)
            job.wait()
        if not requeued.exists():
            return
        requeued.unlink()


def warn_of_limit(limit, job):
    if not limit.exists():
        return
    while not Path(limit.read_text()).exists() and job.poll() is None:
        time.sleep(0.02)
    limit.unlink()
    job.send_signal(signal.SIGUSR1)


def srun(arguments):
    first = next(i for i, word in enumerate(arguments) if not word.startswith("--"))
    options = dict(word.lstrip("-").partition("=")[::2] for word in arguments[:first])
    assert "cpus-per-task" in options
    local = int(options["ntasks-per-node"])
    count = int(options["nodes"]) * local
    common = {"SLURM_STEP_NUM_TASKS": str(count), "SLURM_STEP_NODELIST": "127.0.0.1"}
    common.update(SLURM_JOB_ID=os.environ["SLURM_JOB_ID"].replace("_", ""), SLURM_STEP_ID="0")
    tasks = [
        {**os.environ, **common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % local)}
        for rank in range(count)
    ]
    if count == 1:
        os.execvpe(arguments[first], arguments[first:], tasks[0])
    children = [subprocess.Popen(arguments[first:], env=task) for task in tasks]
    sys.exit(max(child.wait() for child in children))


def squeue(_):
    queue = Path(os.environ["STAND_IN"], "queue")
    print(queue.read_text() if queue.exists() else "", end="")


def scontrol(arguments):
    what, number = arguments
    assert what == "requeue"
    Path(os.environ["STAND_IN"], f"requeued-{number}").touch()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2:])
