"""All runs of an experiment, criteria times seeds: one after the other, side by side, or by Slurm.

Every step is one of the repository's scripts, and a step that is done is not done again: so an
experiment that was stopped, at whatever point, goes on when it is started again.
"""

import argparse
import concurrent.futures
import contextlib
import os
import queue
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

from ..common import processes
from ..common.cli import UserError, argument, run, split_at_dashes, whole_number
from ..common.locks import locked
from ..common.state import read_json
from ..runs import training_log
from ..runs.experiment import (
    CRITERIA,
    LOG_END,
    ROOT,
    SEED,
    criterion,
    log_end,
    seed,
)
from . import results, slurm
from .plan import Plan

SECONDS_BETWEEN_PROGRESS = 60
END_OF_LOG = 1 << 16


class Commands:
    """Runs commands, from any thread, and ends them all when the ``with`` block ends."""

    def __init__(self):
        self._running = {}
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop(lambda gentle: signal.SIGTERM)

    def stop_gently(self):
        """Send each command that is running the signal it asks for, and start nothing more."""
        self._stop(lambda gentle: gentle)

    def _stop(self, choose):
        with self._lock:
            self._stopped = True
            for child, gentle in self._running.items():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, choose(gentle))

    def call(self, command, environment=None, inherited=(), gentle=signal.SIGTERM):
        """Run a command to its end; returns its status."""
        with self._lock:
            if self._stopped:
                return 130
            # A session of its own: ending one is ending all that it started.
            child = processes.start(
                command, env=environment, start_new_session=True, pass_fds=inherited, cwd=ROOT
            )
            self._running[child] = gentle
        status = child.wait()
        with self._lock:
            del self._running[child]
        return status


def execute(plan, inherited=()):
    """Train, translate and score all runs, as many at a time as the plan says.

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
            for command in (plan.train_command(a_run), *plan.evaluate_commands(a_run)):
                status = commands.call(command, plan.environment(slot), inherited)
                if status:
                    return f"{a_run.name}: {shlex.join(command)} ended with status {status}"
            results.gather(plan.experiment, plan.folder)
            progress.say()
            return None
        except UserError as error:
            return f"{a_run.name}: {error}"
        finally:
            slots.put(slot)

    progress = Progress(plan)
    with concurrent.futures.ThreadPoolExecutor(plan.jobs) as pool, commands, progress:
        failures = list(filter(None, pool.map(work, plan.runs)))
    if failures:
        raise UserError(
            f"{len(failures)} of {len(plan.runs)} runs did not end well; see to what they say "
            "above, and run the same command again: it goes on.\n" + "\n".join(failures)
        )


def execute_task(plan, a_run):
    """Train, translate and score one run as a task of Slurm's.

    Slurm's signal before the time limit stops a training after its next checkpoint and anything
    else at once, and puts the task back into the queue.
    """
    commands, out_of_time = Commands(), threading.Event()
    train = slurm.step(plan.nodes, plan.gpus_per_run), plan.train_command(a_run), signal.SIGUSR1
    evaluate = [
        (slurm.step(1, 1), command, signal.SIGTERM) for command in plan.evaluate_commands(a_run)
    ]

    def stop(*_):
        out_of_time.set()
        # The signal may interrupt this thread while it holds the commands' lock.
        threading.Thread(target=commands.stop_gently).start()

    signal.signal(signal.SIGUSR1, stop)
    with commands:
        for place, command, gentle in (train, *evaluate):
            status = commands.call([*place, *command], plan.environment(0), gentle=gentle)
            if out_of_time.is_set() and status:
                print(f"{a_run.name}: out of time, back into the queue", flush=True)
                slurm.requeue()
                return
            if status:
                raise UserError(f"{a_run.name}: {shlex.join(command)} ended with status {status}")
    results.gather(plan.experiment, plan.folder)


class Progress:
    """While its block runs, says how many runs are done and how long the rest takes."""

    def __init__(self, plan):
        self.plan = plan
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.start, self.before = time.monotonic(), self.trained()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(SECONDS_BETWEEN_PROGRESS):
            self.say()

    def say(self):
        print(self.line(time.monotonic() - self.start), flush=True)

    def finished(self):
        return sum(map(self.plan.is_finished, self.plan.runs))

    def trained(self):
        """Trainings that are done, in runs, a part for those that are going on."""
        return sum(
            share_trained(self.plan.folder / a_run.name, self.plan.every_option)
            for a_run in self.plan.runs
        )

    def line(self, seconds):
        """How far the experiment is, ``seconds`` after this start."""
        count, trained = len(self.plan.runs), self.trained()
        line = f"{self.plan.experiment.name}: {self.finished()} of {count} runs done"
        if self.before < trained < count:
            left = seconds * (count - trained) / (trained - self.before)
            line += f", about {duration(left)} left"
        return line


def share_trained(folder, options):
    """Share of a training that is done, by its log; 0 where nothing is known."""
    if (folder / "training.json").exists():
        return 1
    try:
        with (folder / "train.log").open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - END_OF_LOG, 0))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return 0
    for kind, numbers in filter(None, map(training_log.parse, reversed(lines))):
        if kind == "train_inner":
            return training_log.share_done(numbers, options)
    return 0


def duration(seconds):
    """A length of time in the unit a reader would choose."""
    for unit, length in (("days", 86400), ("hours", 3600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds / 60, 1):.0f} min"


def what_is_left(plan):
    """A line on what there is to do, and how much is done."""
    finished = [a_run for a_run in plan.runs if plan.is_finished(a_run)]
    advice = "delete that run's folder and run the experiment again"
    minutes = sum(
        read_json(path, advice).get("minutes", 0)
        for path in (plan.folder / a_run.name / "training.json" for a_run in plan.runs)
        if path.exists()
    )
    left = [a_run.name for a_run in plan.runs if a_run not in finished]
    line = f"{plan.experiment.name}: {len(plan.runs)} runs in {plan.folder}, {len(finished)} done"
    line += f" ({duration(60 * minutes)} of training so far)" if minutes else ""
    return f"{line}, to do: {', '.join(left)}" if left else line


def comma_list(read, expected):
    """Reader of a list such as ``1,2,3``, without repetition, for argparse."""

    def read_list(text):
        values = [read(word) for word in text.split(",")]
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"{text} names one twice")
        return values

    return argument(read_list, f"a list, with commas, of {expected}")


def parser():
    """Command line, without what follows ``--``."""
    made = argparse.ArgumentParser(prog="bash scripts/reproduce.sh", allow_abbrev=False)
    made.add_argument("experiment", help="its name or file")
    made.add_argument("--seeds", type=comma_list(seed, SEED))
    made.add_argument("--criteria", type=comma_list(criterion, " or ".join(CRITERIA)))
    made.add_argument("--log-ends", type=comma_list(log_end, LOG_END))
    made.add_argument("--gpus", type=whole_number(1))
    made.add_argument("--gpus-per-run", type=whole_number(1), default=1)
    made.add_argument("--nodes", type=whole_number(1), default=1)
    made.add_argument("--jobs", type=whole_number(1))
    made.add_argument("--cpu", action="store_true")
    made.add_argument("--slurm", action="store_true")
    made.add_argument("--sbatch", type=argument(shlex.split, "options with closed quotes"))
    made.add_argument("--prologue")
    made.add_argument("--dry-run", action="store_true")
    made.add_argument("--archive", type=Path)
    made.add_argument("--data", type=Path)
    made.add_argument("--runs", type=Path)
    made.add_argument("--last", type=whole_number(0))
    made.add_argument("--task", type=whole_number(0))
    return made


def with_sbatch_options(arguments):
    """Arguments in which the value of ``--sbatch``, options themselves, is no option of ours."""
    if "--sbatch" not in arguments[:-1]:
        return arguments
    at = arguments.index("--sbatch")
    return [*arguments[:at], f"--sbatch={arguments[at + 1]}", *arguments[at + 2 :]]


def check_device(plan):
    """Raise :class:`UserError` where the experiment is made for a GPU and there is none."""
    if plan.slots or plan.cpu or plan.experiment.cpu or plan.in_slurm:
        return
    raise UserError(
        f"there is no GPU here, and the {len(plan.runs)} trainings of {plan.experiment.name} are "
        "made for one: use such a machine, or add --cpu to start all the same (a line will say "
        "how long it takes)"
    )


def main():
    arguments, train_options = split_at_dashes(sys.argv[1:])
    options = parser().parse_args(with_sbatch_options(arguments))
    plan = Plan(options, train_options)
    processes.exit_on_signals()
    if options.task is not None:
        if options.task >= len(plan.runs):
            raise UserError(f"--task is {options.task}, expected 0 to {len(plan.runs) - 1}")
        execute_task(plan, plan.runs[options.task])
        return
    if options.dry_run:
        print("\n".join(plan.describe()))
        if options.slurm:
            print_jobs(plan, slurm.jobs_of(plan, arguments, train_options, options.prologue))
        return
    check_device(plan)
    print(what_is_left(plan), flush=True)
    plan.folder.mkdir(parents=True, exist_ok=True)
    message = (
        f"{plan.folder} is being worked on by another start of this command: wait for it, or stop "
        "it, and run this again"
    )
    with locked(plan.folder / "lock", message) as lock:
        inherited = [lock.fileno()]
        with Commands() as commands:
            if commands.call(plan.prepare_command(), inherited=inherited):
                raise UserError("the data could not be prepared; see what it says above")
        results.tests_of(plan.experiment, plan.data)
        if options.slurm:
            jobs = slurm.jobs_of(plan, arguments, train_options, options.prologue)
            if jobs[0] is not None:
                first, second = slurm.submit(*jobs, plan.folder / "slurm", options.sbatch or [])
                print(f"Submitted job {first}, and job {second} for table and report after it.")
                return
        else:
            execute(plan, inherited)
    with Commands() as commands:
        status = commands.call(plan.report_command()) or commands.call(
            plan.table_command("--translations", "10")
        )
    if status == 0:
        print(f"\nReport, to open in a browser: {plan.folder / 'report.html'}")
    sys.exit(status)


def print_jobs(plan, jobs):
    """Print the jobs of ``--slurm`` as they would be written and submitted."""
    for name, job in zip(("runs", "table"), jobs):
        if job is not None:
            print(f"# {plan.folder / 'slurm' / name}.sh, submitted by sbatch in their place:")
            print(job, end="")


if __name__ == "__main__":
    run(main)
