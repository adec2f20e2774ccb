"""An experiment as jobs of Slurm: an array with a task for each run, then table and report."""

import os
import shlex
import shutil
import subprocess

from ..common.cli import UserError
from ..common.files import writing
from .plan import script

CPUS = 4
# Time for a run to come to its next checkpoint before Slurm ends it.
SECONDS_BEFORE_LIMIT = 600

RUNS = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --array={tasks}
{resources}
#SBATCH --requeue
#SBATCH --signal=B:USR1@{seconds}
#SBATCH --open-mode=append
#SBATCH --output="{logs}/%A_%a.log"
# Time, partition, memory, account: the site's defaults, or reproduce.sh --sbatch "...".
set -e
{prologue}
exec {command} --task "$SLURM_ARRAY_TASK_ID"{train_options}
"""
TABLE = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}-table
{resources}
#SBATCH --output="{logs}/table-%j.log"
set -e
{prologue}
{table}
{report}
"""


def jobs_of(plan, arguments, train_options, prologue):
    """Texts of the jobs: the array of the runs that are not finished, and what follows it.

    ``arguments`` are those of this start before ``--``, ``train_options`` what stands after.
    The first text is ``None`` where every run is finished.
    """
    words = [word for word in arguments if word not in ("--slurm", "--dry-run")]
    unfinished = [str(i) for i, a_run in enumerate(plan.runs) if not plan.is_finished(a_run)]
    common = {
        "name": plan.experiment.name,
        "logs": plan.folder / "slurm",
        "prologue": prologue or "",
    }
    table = TABLE.format(
        **common,
        resources=_resources(1, 1, plan.cpu),
        table=shlex.join(plan.table_command()),
        report=shlex.join(plan.report_command()),
    )
    if not unfinished:
        return None, table
    runs = RUNS.format(
        **common,
        tasks=",".join(unfinished) + (f"%{plan.jobs}" if plan.jobs else ""),
        resources=_resources(plan.nodes, plan.gpus_per_run, plan.cpu),
        seconds=SECONDS_BEFORE_LIMIT,
        command=shlex.join(["bash", script("reproduce"), *words]),
        train_options=f" -- {shlex.join(train_options)}" if train_options else "",
    )
    return runs, table


def _resources(nodes, gpus, cpu):
    lines = [f"--nodes={nodes}", f"--ntasks-per-node={gpus}", f"--cpus-per-task={CPUS}"]
    lines += [] if cpu else [f"--gres=gpu:{gpus}"]
    return "\n".join(f"#SBATCH {line}" for line in lines)


def step(nodes, processes):
    """Beginning of a command that Slurm runs with ``processes`` on each of ``nodes`` machines."""
    # Since 22.05 srun does not inherit --cpus-per-task from sbatch.
    step = ["srun", f"--nodes={nodes}", f"--ntasks-per-node={processes}", f"--cpus-per-task={CPUS}"]
    return [*step, "--kill-on-bad-exit=1"]


def submit(runs, table, folder, options):
    """Write both jobs into a folder and submit them, the second to begin when the first ended.

    ``options`` are the site's, for sbatch. Returns the numbers of the jobs.

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
        if before and _say("squeue", "--noheader", "--jobs", before).stdout.strip():
            raise UserError(
                f"{folder / 'runs.sh'} is in the queue as job {before}: wait for it, or scancel it"
            )
    first = _submit(folder / "runs.sh", runs, options)
    with writing(number) as file:
        file.write(first + "\n")
    return first, _submit(folder / "table.sh", table, [*options, f"--dependency=afterany:{first}"])


def requeue():
    """Put this task back into the queue, to go on when there is time again."""
    said = _say("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
    if said.returncode:
        raise UserError(
            f"scontrol could not requeue job {os.environ['SLURM_JOB_ID']} ({said.stderr.strip()}): "
            "submit the experiment again, and it goes on"
        )


def _submit(path, text, options):
    with writing(path) as file:
        file.write(text)
    said = _say("sbatch", "--parsable", *options, str(path))
    if said.returncode:
        raise UserError(f"sbatch refused {path}: {said.stderr.strip()}")
    return said.stdout.split(";")[0].strip()


def _say(*command):
    return subprocess.run(command, capture_output=True, text=True)
