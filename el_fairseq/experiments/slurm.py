"""An experiment as an array job of Slurm: one task a run."""

import shutil
import subprocess

from ..common.cli import UserError
from ..common.files import writing

JOB = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
{gpus}#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={output}
# Partition, time limit, account: set SBATCH_PARTITION, SBATCH_TIMELIMIT, SBATCH_ACCOUNT.
exec srun {command}
"""


def job_text(name, tasks, gpus, logs, command):
    """Text of an array job of ``tasks`` tasks, each on ``gpus`` GPUs, that Slurm may requeue.

    ``command`` is shell code; it finds its task's number in ``SLURM_ARRAY_TASK_ID``.
    """
    return JOB.format(
        name=name,
        last=tasks - 1,
        gpus=f"#SBATCH --gres=gpu:{gpus}\n" if gpus else "",
        output=logs / "%A_%a.log",
        command=command,
    )


def submit(job, folder):
    """Write a job to ``folder/job.sh`` and submit it; returns its number.

    Raises:
        UserError: Slurm is not here or refuses, or the job submitted before is still queued.
    """
    for program in ("sbatch", "squeue"):
        if shutil.which(program) is None:
            raise UserError(f"--slurm needs {program}, which is not here: start it on a login node")
    folder.mkdir(parents=True, exist_ok=True)
    number = folder / "job"
    if number.exists():
        before = number.read_text().strip()
        if _say("squeue", "--noheader", "--jobs", before).stdout.strip():
            raise UserError(
                f"{folder / 'job.sh'} is in the queue as job {before}: wait for it, or scancel it"
            )
    with writing(folder / "job.sh") as file:
        file.write(job)
    found = _say("sbatch", "--parsable", str(folder / "job.sh"))
    if found.returncode:
        raise UserError(f"sbatch refused {folder / 'job.sh'}: {found.stderr.strip()}")
    submitted = found.stdout.split(";")[0].strip()
    with writing(number) as file:
        file.write(submitted + "\n")
    return submitted


def _say(*command):
    return subprocess.run(command, capture_output=True, text=True)
