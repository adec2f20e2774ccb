"""What an experiment asks for, and the commands that do it, without doing anything yet."""

import functools
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, replace

from ..common.cli import UserError
from ..runs.experiment import ROOT, divided_update_freq, option_number, read_experiment, run_name
from . import results


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


def check_checkpoints(experiment, options):
    """Raise :class:`UserError` where the training will not keep what is to be averaged."""
    for name in ("--keep-last-epochs", "--max-epoch"):
        kept = option_number(options, name)
        if 0 < kept < experiment.last:
            raise UserError(
                f"{experiment.last} epoch checkpoints are to be averaged, but {name} is "
                f"{kept:g}: lower --last to {kept:g}, or raise {name}"
            )
    if experiment.last and "--no-epoch-checkpoints" in options:
        raise UserError(
            f"{experiment.last} epoch checkpoints are to be averaged, but --no-epoch-checkpoints "
            "keeps none: take it out, or set last = 0 and best = true in the experiment"
        )


class Plan:
    """What is asked of ``scripts/reproduce.sh``, and the commands that follow from it."""

    def __init__(self, options, train_options):
        experiment = read_experiment(options.experiment)
        # Absolute, because the corpus's command runs in the repository's folder.
        self.data = (options.data or experiment.corpus).absolute()
        self.folder = (options.runs or ROOT / "runs" / experiment.name).absolute()
        self.experiment = replace(
            experiment, last=experiment.last if options.last is None else options.last
        )
        if not self.experiment.last and not experiment.best:
            raise UserError("--last is 0 and the experiment does not evaluate the best checkpoint")
        self.archive = options.archive
        self.runs = runs_of(
            options.criteria or experiment.criteria,
            options.log_ends or experiment.log_ends,
            experiment.seeds if options.seeds is None else options.seeds,
        )
        self.nodes, self.gpus_per_run = options.nodes, options.gpus_per_run
        self.in_slurm = options.slurm or options.task is not None
        self.cpu = options.cpu
        self.jobs, self.slots = self._places(options)
        self.every_option = [*experiment.train_options, *train_options]
        check_checkpoints(self.experiment, self.every_option)
        self.train_options, processes = train_options, self.gpus_per_run * self.nodes
        if processes > 1:
            share = divided_update_freq(self.every_option, processes)
            self.train_options = [*train_options, *share]

    def _places(self, options):
        """How many runs at a time, and the GPUs of each (empty: as they are)."""
        if self.in_slurm:
            # Slurm gives each task its devices; what is asked for limits the tasks at a time.
            at_a_time = options.gpus // (self.gpus_per_run * self.nodes) if options.gpus else None
            if at_a_time == 0:
                raise UserError(
                    f"--gpus is {options.gpus}, expected at least "
                    f"{self.gpus_per_run * self.nodes}, which one run takes"
                )
            return options.jobs or at_a_time, []
        gpus = [] if options.cpu else visible_gpus(options.gpus)
        size = self.gpus_per_run
        if self.nodes > 1:
            raise UserError("--nodes needs --slurm: without it a run stays on this machine")
        if gpus and len(gpus) < size:
            raise UserError(
                f"--gpus-per-run is {size}, expected at most {len(gpus)}, the GPUs to use here"
            )
        slots = [gpus[i * size : i * size + size] for i in range(len(gpus) // size)]
        return options.jobs or len(slots) or self.experiment.jobs, slots

    @functools.cached_property
    def _tests(self):
        return results.tests_of(self.experiment, self.data)

    @property
    def tests(self):
        """Names of the test sets, as far as they are known before the corpus is made."""
        if (self.data / "manifest.json").exists():
            return self._tests
        return self.experiment.tests or ["test"]

    def prepare_command(self):
        command = [*self.experiment.command, "--out", str(self.data)]
        return command + (["--archive", str(self.archive.absolute())] if self.archive else [])

    def train_command(self, a_run):
        command = ["bash", script("train"), self.experiment.word, a_run.criterion]
        command += [str(a_run.seed), "--data", str(self.data), "--runs", str(self.folder)]
        if a_run.log_end is not None:
            command += ["--log-end", str(a_run.log_end)]
        # Under Slurm there is a task for each process, and train.sh joins them.
        if self.gpus_per_run > 1 and not self.in_slurm:
            command += ["--processes", str(self.gpus_per_run)]
        return command + (["--", *self.train_options] if self.train_options else [])

    def evaluate_commands(self, a_run):
        """A command for each test set and kind of checkpoint."""
        kinds = [["--last", str(self.experiment.last)]] if self.experiment.last else []
        kinds += [["--best"]] if self.experiment.best else []
        command = ["bash", script("evaluate"), str(self.folder / a_run.name)]
        command += ["--data", str(self.data)]
        options = self.experiment.evaluate_options
        return [
            [*command, "--subset", test, *kind, *(["--", *options] if options else [])]
            for test in self.tests
            for kind in kinds
        ]

    def table_command(self, *more):
        command = ["bash", script("table"), self.experiment.word, "--runs", str(self.folder)]
        return [*command, "--last", str(self.experiment.last), *more]

    def report_command(self):
        return ["bash", script("report"), str(self.folder)]

    def environment(self, slot):
        """Environment of the runs in a slot: the GPUs they see, or their share of the cores."""
        if self.slots:
            devices = ",".join(self.slots[slot % len(self.slots)])
            return {**os.environ, "CUDA_VISIBLE_DEVICES": devices}
        if self.in_slurm and not self.cpu:
            return dict(os.environ)
        threads = max(len(os.sched_getaffinity(0)) // (1 if self.in_slurm else self.jobs), 1)
        return {"OMP_NUM_THREADS": str(threads), **os.environ, "CUDA_VISIBLE_DEVICES": ""}

    def is_finished(self, a_run):
        return results.is_finished(self.experiment, self.folder / a_run.name, self.tests)

    def describe(self):
        """Yield the lines of ``--dry-run``: every command, in order."""
        yield shlex.join(["cd", str(ROOT)])
        yield shlex.join(self.prepare_command())
        if self.slots:
            slots = " | ".join(",".join(slot) for slot in self.slots)
            yield f"# {self.jobs} runs at a time, with CUDA_VISIBLE_DEVICES={slots}"
        elif not self.in_slurm:
            yield f"# {self.jobs} at a time, on the CPU"
        for a_run in self.runs:
            for command in (self.train_command(a_run), *self.evaluate_commands(a_run)):
                yield shlex.join(command)
        yield shlex.join(self.report_command())
        yield shlex.join(self.table_command())


def script(name):
    return str(ROOT / "scripts" / f"{name}.sh")


def visible_gpus(number):
    """Names of the GPUs to use, for CUDA_VISIBLE_DEVICES; all that are here for ``None``."""
    try:
        import torch

        count = torch.cuda.device_count()
    except ImportError:  # a dry run does without the environment
        count = _counted_by_driver()
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = names[:count] if names != [""] else [str(index) for index in range(count)]
    if number is not None and number > len(found):
        raise UserError(f"--gpus is {number}, expected at most {len(found)}, the GPUs here")
    return found[:number]


def _counted_by_driver():
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
