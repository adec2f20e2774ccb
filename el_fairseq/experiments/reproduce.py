"""All runs of an experiment, criteria times seeds: one after the other, side by side, or by Slurm.

Every step is one of the repository's scripts, and a step that is done is not done again: so an
experiment that was stopped, at whatever point, goes on when it is started again.
"""

import argparse
import concurrent.futures
import contextlib
import fcntl
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from ..common.cli import UserError, run
from ..common.files import writing
from ..loss import checked_spec
from ..runs import training, training_log
from ..runs.experiment import CRITERIA, criterion_options, names, read_experiment, run_name
from ..runs.record import record_of
from . import slurm

ROOT = Path(__file__).parents[2]
MEASURED_BATCHES = 4


@dataclass(frozen=True)
class Run:
    """One training: a criterion (``ce`` or ``el``), its log end (``None`` for CE), a seed."""

    criterion: str
    log_end: float
    seed: int

    @property
    def name(self):
        return run_name(self.criterion, self.log_end, self.seed)


def runs_of(criteria, log_ends, seeds):
    """The runs, one seed after the other, so that pairs to compare are finished early."""
    return [
        Run(criterion, log_end, seed)
        for seed in seeds
        for criterion in criteria
        for log_end in (log_ends if criterion == "el" else [None])
    ]


def update_frequencies(options):
    """Batches that make an update, for each epoch: ``--update-freq`` among ``options``."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--update-freq", default="1")
    return [int(number) for number in reader.parse_known_args(options)[0].update_freq.split(",")]


def distributed_options(options, gpus):
    """Options that spread one training over ``gpus`` GPUs with the batch of ``options``.

    Raises:
        UserError: ``--update-freq`` of ``options`` is not divisible by ``gpus``.
    """
    if gpus == 1:
        return []
    frequencies = update_frequencies(options)
    if any(frequency % gpus for frequency in frequencies):
        raise UserError(
            f"--update-freq is {','.join(map(str, frequencies))}, which {gpus} GPUs cannot share "
            "without another batch: leave --gpus-per-run at 1 (runs side by side), or halve "
            "--max-tokens and double --update-freq in the experiment until it can be divided"
        )
    divided = ",".join(str(frequency // gpus) for frequency in frequencies)
    return ["--distributed-world-size", str(gpus), "--update-freq", divided]


class Plan:
    """What is asked of ``scripts/reproduce.sh``, and the commands that follow from it."""

    def __init__(self, options, train_options):
        self.experiment = options.experiment
        self.recipe = read_experiment(self.experiment).train_options
        self.data = options.data or ROOT / "data" / self.experiment
        self.folder = (options.runs or ROOT / "runs" / self.experiment).resolve()
        self.last = options.last
        self.archive = options.archive
        self.runs = runs_of(options.criteria, options.log_ends, options.seeds)
        self.gpus = [] if options.cpu else visible_gpus(options.gpus)
        groups = max(1, len(self.gpus) // options.gpus_per_run)
        if self.gpus and len(self.gpus) < options.gpus_per_run:
            raise UserError(
                f"--gpus-per-run is {options.gpus_per_run}, expected at most the "
                f"{len(self.gpus)} GPUs there are to use"
            )
        size = options.gpus_per_run
        self.slots = [self.gpus[i * size : i * size + size] for i in range(groups)]
        self.jobs = options.jobs or groups
        self.train_options = [
            *train_options,
            *distributed_options([*self.recipe, *train_options], size),
        ]

    def prepare_command(self):
        command = ["bash", script("data-prep", self.experiment), "--out", str(self.data)]
        return command + (["--archive", str(self.archive)] if self.archive else [])

    def commands(self, a_run):
        """Commands that train, translate and score one run, in order."""
        train = ["bash", script("scripts", "train"), self.experiment, a_run.criterion]
        train += [str(a_run.seed), "--data", str(self.data), "--runs", str(self.folder)]
        if a_run.log_end is not None:
            train += ["--log-end", str(a_run.log_end)]
        if self.train_options:
            train += ["--", *self.train_options]
        evaluate = ["bash", script("scripts", "evaluate"), str(self.folder / a_run.name)]
        evaluate += ["--data", str(self.data)]
        return [train, [*evaluate, "--last", str(self.last)], [*evaluate, "--best"]]

    def table_command(self):
        return ["bash", script("scripts", "table"), self.experiment, "--runs", str(self.folder)]

    def report_command(self):
        return ["bash", script("scripts", "report"), str(self.folder)]

    def environment(self, slot):
        """Environment of the runs in a slot: the GPUs they see."""
        devices = ",".join(self.slots[slot % len(self.slots)])
        return {**os.environ, "CUDA_VISIBLE_DEVICES": devices}

    def describe(self):
        """Yield the lines of ``--dry-run``: every command, in order."""
        yield shlex.join(self.prepare_command())
        if self.gpus:
            slots = " | ".join(",".join(slot) for slot in self.slots)
            yield f"# {self.jobs} runs at a time, with CUDA_VISIBLE_DEVICES={slots}"
        else:
            yield f"# {self.jobs} at a time, on the CPU"
        for a_run in self.runs:
            for command in self.commands(a_run):
                yield shlex.join(command)
        yield shlex.join(self.table_command())
        yield shlex.join(self.report_command())


def script(folder, name):
    return str(ROOT / folder / f"{name}.sh")


def visible_gpus(number):
    """Names of the GPUs to use, for CUDA_VISIBLE_DEVICES; all that torch sees for ``None``."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = names[:count] if names != [""] else [str(index) for index in range(count)]
    if number is not None and number > len(found):
        raise UserError(f"--gpus is {number}, expected at most {len(found)}: so many are here")
    return found[:number]


class Commands:
    """Runs commands, from any thread, and ends them all when the ``with`` block ends."""

    def __init__(self):
        self._running = set()
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._lock:
            self._stopped = True
            for child in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)

    def call(self, command, environment=None, inherited=()):
        """Run a command to its end; returns its status."""
        with self._lock:
            if self._stopped:
                return 130
            # A session of its own: ending one is ending all that it started.
            child = subprocess.Popen(
                command, env=environment, start_new_session=True, pass_fds=inherited
            )
            self._running.add(child)
        status = child.wait()
        with self._lock:
            self._running.discard(child)
        return status


def execute(plan, runs, inherited=()):
    """Train, translate and score ``runs``, as many at a time as the plan says.

    ``inherited`` are the file descriptors of locks, for everything that is started.

    Raises:
        UserError: some failed; all others were brought to their end.
    """
    commands = Commands()
    slots = queue.Queue()
    for slot in range(plan.jobs):
        slots.put(slot)

    def work(a_run):
        slot = slots.get()
        try:
            for command in plan.commands(a_run):
                status = commands.call(command, plan.environment(slot), inherited)
                if status:
                    return f"{a_run.name}: {shlex.join(command)} ended with status {status}"
            gather(plan)
            return None
        finally:
            slots.put(slot)

    pool = concurrent.futures.ThreadPoolExecutor(plan.jobs)
    with pool, commands:
        failures = list(filter(None, pool.map(work, runs)))
    if failures:
        raise UserError(
            f"{len(failures)} of {len(runs)} runs did not end well; mend what they say above, and "
            "run the same command again: it goes on.\n" + "\n".join(failures)
        )


def gather(plan):
    """Write ``results.json``: a record for each run in the plan's folder that is finished.

    The scores are those of the averaged checkpoints; ``best`` holds those of the best one.
    """
    with (plan.folder / "results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = []
        for path in sorted(plan.folder.glob("*/evaluation/test-best/scores.json")):
            folder = path.parents[2]
            averaged = f"test-averaged{plan.last}"
            if (folder / "evaluation" / averaged / "scores.json").exists():
                record = record_of(folder, averaged)
                record["averaged"] = plan.last
                record["best"] = json.loads(path.read_text(encoding="utf-8"))
                records.append(record)
        with writing(plan.folder / "results.json") as file:
            json.dump(records, file, indent=2)
            file.write("\n")


def seconds_on_cpu(plan):
    """Seconds that all trainings would take on this CPU, from a few batches of the first one."""
    a_run = plan.runs[0]
    options = [
        *plan.recipe,
        *criterion_options(a_run.criterion, a_run.log_end),
        *plan.train_options,
    ]
    progress = training.Progress(a_run.name, options)
    command = [
        "fairseq-train",
        str(plan.data / "bin"),
        "--user-dir",
        str(Path(__file__).parents[1]),
    ]
    command += [*options, "--cpu", "--no-save", "--disable-validation", "--log-format", "json"]
    command += ["--log-interval", "1", "--update-freq", "1", "--max-update", str(MEASURED_BATCHES)]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--save-dir", folder]
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    if result.returncode:
        last_line = [line for line in result.stdout.splitlines() if line.strip()][-1:]
        raise UserError(f"fairseq-train failed: {''.join(last_line)}")
    records = [training_log.parse(line) for line in result.stdout.splitlines()]
    first, *_, last = (record[1] for record in records if record and record[0] == "train_inner")
    for numbers in (first, last):
        numbers["num_updates"] /= update_frequencies(options)[0]
    share = progress.done(last) - progress.done(first)
    return (last["wall"] - first["wall"]) / share * len(plan.runs)


def duration(seconds):
    """A length of time in the unit a reader would choose."""
    for unit, length in (("days", 86400), ("hours", 3600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds / 60, 1):.0f} minutes"


def slurm_job(plan, arguments, gpus):
    """Text of the array job whose tasks are this start's arguments and a run's number."""
    words = [shlex.quote(word) for word in arguments if word not in ("--slurm", "--dry-run")]
    end = words.index("--") if "--" in words else len(words)
    words[end:end] = ["--task", '"$SLURM_ARRAY_TASK_ID"']
    command = " ".join(["bash", shlex.quote(script("scripts", "reproduce")), *words])
    return slurm.job_text(plan.experiment, len(plan.runs), gpus, plan.folder / "slurm", command)


def claim(plan):
    """Open and lock the experiment's folder.

    Raises:
        UserError: another start of it is running, or runs that it started.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    lock = (plan.folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{plan.folder} is being worked on by another start of this command: wait for it, or "
            "stop it, and run this again"
        ) from None
    return lock


def numbers(kind):
    """Reader of a list such as ``1,2,3``, without repetition."""

    def read(text):
        values = [kind(word) for word in text.split(",")]
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"{text} names one twice")
        return values

    read.__name__ = f"{kind.__name__} list"
    return read


def criterion(text):
    if text not in CRITERIA:
        raise ValueError
    return text


def parser():
    """Command line, without what follows ``--``."""
    made = argparse.ArgumentParser(prog="bash scripts/reproduce.sh", allow_abbrev=False)
    made.add_argument("experiment", choices=names())
    made.add_argument("--seeds", type=numbers(int), default=[1, 2, 3, 4, 5])
    made.add_argument("--criteria", type=numbers(criterion), default=["ce", "el"])
    made.add_argument("--log-ends", type=numbers(float), default=[0.5])
    made.add_argument("--gpus", type=positive)
    made.add_argument("--gpus-per-run", type=positive, default=1)
    made.add_argument("--jobs", type=positive)
    made.add_argument("--cpu", action="store_true")
    made.add_argument("--slurm", action="store_true")
    made.add_argument("--dry-run", action="store_true")
    made.add_argument("--archive", type=Path)
    made.add_argument("--data", type=Path)
    made.add_argument("--runs", type=Path)
    made.add_argument("--last", type=positive, default=10)
    made.add_argument("--task", type=int)
    return made


def positive(text):
    if int(text) < 1:
        raise ValueError
    return int(text)


def main():
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser().parse_args(arguments[:end])
    for log_end in options.log_ends:
        try:
            checked_spec(log_end)
        except ValueError as error:
            raise UserError(str(error)) from None
    plan = Plan(options, arguments[end + 1 :])
    job = None
    if options.slurm:
        job = slurm_job(plan, arguments, 0 if options.cpu else options.gpus_per_run)
    if options.dry_run:
        print("\n".join(plan.describe()))
        if job is not None:
            print(f"# {plan.folder / 'slurm' / 'job.sh'}, submitted by sbatch, in their place:")
            print(job, end="")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.task is not None:
        check_device(plan, options.cpu)
        execute(plan, [plan.runs[options.task]])
        return
    with claim(plan) as lock:
        inherited = [lock.fileno()]
        with Commands() as commands:
            if commands.call(plan.prepare_command(), inherited=inherited):
                raise UserError("the data could not be prepared; see what it says above")
        if job is not None:
            print(f"Submitted job {slurm.submit(job, plan.folder / 'slurm')}.")
            print(f"When it is finished: {shlex.join(plan.table_command())}")
            return
        check_device(plan, options.cpu)
        execute(plan, plan.runs, inherited)
    with Commands() as commands:
        sys.exit(commands.call(plan.table_command()) or commands.call(plan.report_command()))


def check_device(plan, cpu):
    """Raise :class:`UserError`, with the time it would take, where no GPU is and none is wanted."""
    if plan.gpus or cpu:
        return
    print("There is no GPU here: measuring how long this would take.", file=sys.stderr)
    raise UserError(
        f"the {len(plan.runs)} trainings would take about {duration(seconds_on_cpu(plan))} on this "
        "CPU. Use a machine with an NVIDIA GPU, or add --cpu to start all the same."
    )


if __name__ == "__main__":
    run(main)
