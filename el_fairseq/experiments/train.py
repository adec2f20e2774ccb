"""Trains one run of an experiment, or goes on with it after an interruption.

On the GPU at half precision where there is one, else on the CPU. SIGUSR1 stops a training after a
checkpoint; the same command goes on. The run's folder holds run.json (what was asked), train.log,
tensorboard/, checkpoints/ (which hold the progress), and training.json once it is finished.
"""

import functools
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch

from ..common import processes
from ..common.cli import UserError, parse, whole_number
from ..common.cli import run as run_command
from ..common.files import full_disk_told, locked, read_json, write_json
from ..common.paths import shown, usable
from ..corpora import manifest
from ..corpora.sources import checksum
from ..safe_load import load
from .config import Experiment, parser_of, read_experiment, slug
from .options import check_training, divided_update_freq
from .training_log import Progress

# Of run.json and results.json; those of versions that wrote another one are refused.
FORMAT = 3
# Two runs are the same if these are equal; the corpus is compared by content.
IDENTITY = ("loss", "seed", "corpus", "device", "gpus", "options")
TRAINED_ON = ("dict.*.txt", "train*.bin", "train*.idx", "valid*.bin", "valid*.idx")
SEED = whole_number(0, 2**32 - 1)  # numpy takes no larger one
GPUS_PER_RUN = "GPUs that share a training's batch: --update-freq is divided by K (1)"
# glibc gives large tensors back to Linux at once, which clears the pages again for the next update:
# a quarter of the time of Multi30k's trainings. So it keeps them.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


@dataclass(frozen=True)
class Run:
    """One training. ``given`` are options of fairseq-train beside those of experiment and loss;
    ``gpus`` names of GPUs as in CUDA_VISIBLE_DEVICES, none for the CPU."""

    experiment: Experiment
    loss: str
    seed: int
    data: Path
    folder: Path
    gpus: tuple = ()
    threads: Optional[int] = None
    given: tuple = ()

    @property
    def name(self):
        """Name of the run's folder, such as ``ce-seed1``."""
        return self.folder.name

    @property
    def is_trained(self):
        return (self.folder / "training.json").exists()

    @functools.cached_property
    def checked(self):
        """All of fairseq's options of this run, as fairseq's parser reads them; a namespace."""
        return check_training(self.experiment, self.loss, self.given)

    def options(self):
        """The options that shape the training."""
        experiment = self.experiment
        words = [*experiment.train.options, *experiment.losses[self.loss], *self.given]
        if getattr(self.checked, "report_accuracy", None) is False:  # not every criterion knows it
            words.append("--report-accuracy")
        share = divided_update_freq(self.checked, len(self.gpus))
        return [*words, *share, "--seed", str(self.seed)]

    def command(self):
        """What a user types in the repository's folder to train it."""
        words = ["bash", "scripts/train.sh", self.experiment.argument, slug(self.loss)]
        words += [str(self.seed), "--data", shown(self.data), "--out", shown(self.folder)]
        words += ["--gpus-per-run", str(len(self.gpus))] if len(self.gpus) > 1 else []
        return words + (["--", *self.given] if self.given else [])

    def fairseq_command(self, languages):
        """The command of the process that trains it, on a corpus of two ``languages``."""
        words = [sys.executable, "-m", f"{__package__}.worker", str(self.data / "bin")]
        words += ["--user-dir", str(Path(__file__).parents[1])]
        words += ["--source-lang", languages[0], "--target-lang", languages[1]]
        words += ["--save-dir", str(self.folder / "checkpoints"), "--log-format", "json"]
        words += ["--tensorboard-logdir", str(self.folder / "tensorboard")]
        gpus = len(self.gpus)
        words += ["--fp16", "--distributed-world-size", str(gpus)] if gpus else ["--cpu"]
        # Sent by the first process, its options are a class that the safe loader refuses.
        words += ["--load-checkpoint-on-all-dp-ranks"] if gpus > 1 else []
        return [*words, *self.options()]

    def environment(self):
        """Variables of that process: the GPUs that it sees, its threads, how it keeps memory."""
        variables = {"PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}
        variables.update({} if self.gpus else KEEP_MEMORY)
        if self.threads is not None and "OMP_NUM_THREADS" not in os.environ:
            variables["OMP_NUM_THREADS"] = str(self.threads)
        return variables

    def record(self):
        """What ``run.json`` holds."""
        return {
            "format": FORMAT,
            "experiment": self.experiment.name,
            "loss": self.loss,
            "seed": self.seed,
            "data": shown(self.data),
            "corpus": identity_of_corpus(self.data / "bin"),
            "device": "cuda" if self.gpus else "cpu",
            "gpus": len(self.gpus),
            "options": self.options(),
            "command": self.command(),
        }


def identity_of_corpus(bin_folder, patterns=TRAINED_ON):
    """Files of binary data as one checksum: those that a training reads, or others."""
    paths = [path for pattern in patterns for path in sorted(bin_folder.glob(pattern))]
    if not paths:
        raise UserError(f"there is no binary data in {bin_folder}: {manifest.ADVICE}")
    sums = "".join(f"{path.name} {checksum(path, 'sha256')}\n" for path in paths)
    return f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}"


def read_record(path, advice):
    """The ``run.json`` or ``results.json`` at a path, of this version's format."""
    record = read_json(path, advice)
    if record.get("format") != FORMAT:
        raise UserError(
            f"{path} is of format {record.get('format', 1)}, expected {FORMAT}: it is of another "
            f"version of el_fairseq; go on with that version, or {advice}"
        )
    return record


def read_run(folder):
    """What was asked of the run in a folder: its ``run.json``."""
    advice = f"delete {folder} and train anew, or name another folder"
    return read_record(Path(folder, "run.json"), advice)


def train(run, progress):
    """Train a run to its end, or go on from its last checkpoint; nothing where it is finished.

    fairseq's whole output is appended to ``train.log``; ``training.json`` says that it finished.
    Raises ``SystemExit`` with status 75 where SIGUSR1 stopped it after a checkpoint.
    """
    out, record = run.folder, run.record()
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / "lock", f"{out} is being trained") as lock:
        claim(out, record)
        if run.is_trained:
            return
        last = out / "checkpoints" / "checkpoint_last.pt"
        if last.exists():
            load(last)  # fairseq would read damaged bytes as weights
        corpus = manifest.read(run.data)
        command = run.fairseq_command((corpus.source, corpus.target))
        log = out / "train.log"
        with full_disk_told(log), log.open("a", encoding="utf-8") as copy:
            print(f"\n{shlex.join(command)}", file=copy, flush=True)
            with processes.started(
                command,
                stdin=lock,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **run.environment()},
            ) as child:
                lock.close()  # the child holds the lock
                for line in child.stdout:
                    copy.write(line)
                    copy.flush()
                    progress.see(run, line)
    if child.returncode in (processes.STOPPED, -signal.SIGUSR1):  # the latter: while it started
        print(f"{run.name:12} stopped; the same command goes on from its last checkpoint")
        sys.exit(processes.STOPPED)
    if child.returncode:
        raise failure("fairseq-train", log, child.returncode)
    if not last.exists():
        raise UserError(f"fairseq-train ended well and left no {last}: lower --save-interval")
    write_json(out / "training.json", how_it_ended(load(last)))


def how_it_ended(checkpoint):
    """What ``training.json`` holds, by the last checkpoint of a training."""
    extra = checkpoint["extra_state"]
    ended = {
        "updates": checkpoint["optimizer_history"][-1]["num_updates"],
        # Of all processes that led to it; a tensor where several trained together.
        "minutes": round(float(extra["previous_training_time"]) / 60, 1),
    }
    for name, key in (("nll_loss", "valid_nll"), ("accuracy", "valid_accuracy")):
        if name in extra["last_validation"]:
            ended[key] = extra["last_validation"][name]  # bits a token, percent
    return ended


def claim(out, record):
    """Make ``out`` the run of ``record``, or check that it is that run already.

    Once a checkpoint exists, what :data:`IDENTITY` names may no longer change.
    """
    if not (any(out.glob("checkpoints/*.pt")) or (out / "training.json").exists()):
        (out / "train.log").unlink(missing_ok=True)
        write_json(out / "run.json", record)
        return
    advice = f"delete {out} to train anew, or choose another --out"
    check_same(read_run(out), record, IDENTITY, f"{out} was trained", advice)


def check_same(before, now, names, made, advice):
    """Raise :class:`UserError` by the first of ``names`` by which two records differ; of options,
    it tells those alone that are not in both."""
    for name in names:
        was, own = before.get(name), now[name]
        if was == own:
            continue
        told = [repr(was), repr(own)]
        if isinstance(was, list) and isinstance(own, list):
            both = [re.split(" (?=--)", shlex.join(options)) for options in (was, own)]
            only = [[one for one in some if one not in other] for some, other in (both, both[::-1])]
            told = [f"'{' '.join(some)}'" for some in (only if any(only) else both)]
        raise UserError(f"{made} with {name} {told[0]}, not {told[1]}; {advice}")


def failure(program, log, status):
    """The error that tells of a failed program of fairseq's, with the last line that it printed."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    if status < 0:
        said = f"{signal.Signals(-status).name} ended it; the same command goes on (after: {said})"
    return UserError(f"{program} failed: {said} (its full output is in {log})")


def gpus_of_runs(per_run, cpu=False, number=None, dry_run=False):
    """The GPUs of each of the runs that are trained side by side, tuples of names as in
    CUDA_VISIBLE_DEVICES; an empty one: on the CPU. ``number`` of them are used (``None``: all that
    are here); a dry run may name more."""
    count = 0 if cpu else torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",")[:count] if visible else [str(index) for index in range(count)]
    if number is not None and number > len(gpus):
        if not dry_run:
            raise UserError(f"--gpus is {number}, expected at most {len(gpus)}, the GPUs here")
        gpus = [str(index) for index in range(number)]
    gpus = gpus[:number]
    if per_run > max(len(gpus), 1):
        raise UserError(
            f"--gpus-per-run is {per_run}, expected at most {len(gpus)}, the GPUs to use here; a "
            "CPU trains in one process"
        )
    slots = range(0, len(gpus) - per_run + 1, per_run)
    return [tuple(gpus[i : i + per_run]) for i in slots] or [()]


def main():
    parser = parser_of("train", __doc__, "LOSS SEED [options] [-- fairseq-train options]")
    add = parser.add_argument
    add("loss", help="one of the experiment's: ce, el, ...")
    add("seed", type=SEED, help="a whole number")
    add("--data", type=Path, metavar="DIR", help="the corpus (the experiment's)")
    add("--out", type=Path, metavar="DIR", help="of the run (runs/EXPERIMENT/LOSS-seedSEED)")
    add("--gpus-per-run", type=whole_number(1), default=1, metavar="K", help=GPUS_PER_RUN)
    add("--cpu", action="store_true", help="train on the CPU, also beside a GPU")
    arguments, theirs = parse(parser)
    experiment = read_experiment(arguments.experiment)
    loss, seed = experiment.loss(arguments.loss), arguments.seed
    data = usable(arguments.data or experiment.data)
    out = usable(arguments.out or experiment.folder / f"{slug(loss)}-seed{seed}")
    gpus = gpus_of_runs(arguments.gpus_per_run, arguments.cpu)[0]
    run = Run(experiment, loss, seed, data, out, gpus, given=tuple(theirs))
    train(run, Progress([run]))
    print(f"{run.folder.name} is trained: {shown(run.folder)}")


if __name__ == "__main__":
    run_command(lambda: processes.supervise(main))
