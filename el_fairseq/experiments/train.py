"""One training run: an experiment, one of its losses and a seed, through ``fairseq-train``.

A run is a folder: ``run.json`` (what was asked), ``train.log``, ``checkpoints/``,
``tensorboard/``, and ``training.json`` once it is finished. How far it is, its checkpoints know.
"""

import argparse
import functools
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch

from ..common import processes
from ..common.cli import UserError, argument, number_from, split_at_dashes, whole_number
from ..common.cli import run as run_command
from ..common.locks import locked
from ..common.paths import ROOT, shown
from ..common.state import read_json, write_json
from ..corpora import manifest
from ..corpora.sources import checksum
from . import training_log
from .checkpoints import newest, repair
from .config import Experiment, Loss, names, read_experiment
from .options import check_checkpoints, check_training, divided_update_freq

# Of run.json; runs of versions that wrote another one are refused.
FORMAT = 3
# What makes two trainings the same one: the corpus by its content, wherever it lies.
IDENTITY = ("loss", "seed", "corpus", "device", "gpus", "options")
SECONDS_BETWEEN_PROGRESS = 15
# glibc gives large tensors back to Linux at once, which clears the pages again for the next update:
# a quarter of a training on the CPU. So it keeps them.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


@dataclass(frozen=True)
class Run:
    """One training. ``given`` are options of fairseq-train beside those of experiment and loss.

    ``gpus`` is their number, 0 on the CPU; ``visible`` their names for CUDA_VISIBLE_DEVICES, or
    ``None`` for those that are visible anyway.
    """

    experiment: Experiment
    loss: Loss
    seed: int
    data: Path
    folder: Path
    gpus: int = 0
    visible: Optional[str] = None
    threads: Optional[int] = None
    given: tuple = ()

    @property
    def name(self):
        """Name of the run's folder, such as ``ce-seed1``."""
        return f"{self.loss.slug}-seed{self.seed}"

    @property
    def device(self):
        return "cuda" if self.gpus else "cpu"

    @functools.cached_property
    def checked(self):
        """All of fairseq's options of this run, as fairseq's parser reads them; a namespace.

        Raises:
            UserError: one is refused, by fairseq or by us.
        """
        checked = check_training(self.experiment.train.options, self.loss, list(self.given))
        check_checkpoints(checked, self.experiment.evaluate.last)
        return checked

    def options(self):
        """The options that shape the training."""
        words = [*self.experiment.train.options, *self.loss.options, *self.given]
        words += [] if "--report-accuracy" in words else ["--report-accuracy"]
        share = divided_update_freq(self.checked, max(self.gpus, 1))
        return [*words, *share, "--seed", str(self.seed)]

    def command(self):
        """What a user types in the repository's folder to train it."""
        words = ["bash", "scripts/train.sh", self.experiment.word, self.loss.slug, str(self.seed)]
        words += ["--data", shown(self.data), "--out", shown(self.folder)]
        words += ["--gpus-per-run", str(self.gpus)] if self.gpus > 1 else []
        return words + (["--", *self.given] if self.given else [])

    def fairseq_command(self, languages):
        """The command of the process that trains it, on a corpus of two ``languages``."""
        words = [sys.executable, "-m", f"{__package__}.worker", str(self.data / "bin")]
        words += ["--user-dir", str(Path(__file__).parents[1])]
        words += ["--source-lang", languages[0], "--target-lang", languages[1]]
        words += ["--save-dir", str(self.folder / "checkpoints"), "--log-format", "json"]
        words += ["--tensorboard-logdir", str(self.folder / "tensorboard")]
        words += ["--fp16", "--distributed-world-size", str(self.gpus)] if self.gpus else ["--cpu"]
        # Sent by the first process, its options are a class that the safe loader refuses.
        words += ["--load-checkpoint-on-all-dp-ranks"] if self.gpus > 1 else []
        return [*words, *self.options()]

    def environment(self):
        """Variables of that process: the GPUs that it sees, its threads, how it keeps memory."""
        found = {"PYTHONUNBUFFERED": "1"}
        if not self.gpus:
            found.update(CUDA_VISIBLE_DEVICES="", **KEEP_MEMORY)
        elif self.visible is not None:
            found["CUDA_VISIBLE_DEVICES"] = self.visible
        if self.threads is not None and "OMP_NUM_THREADS" not in os.environ:
            found["OMP_NUM_THREADS"] = str(self.threads)
        return found

    def record(self):
        """What ``run.json`` holds."""
        options = self.options()
        return {
            "format": FORMAT,
            "experiment": self.experiment.name,
            "loss": self.loss.name,
            "seed": self.seed,
            "data": shown(self.data),
            "corpus": identity_of_corpus(self.data / "bin"),
            "device": self.device,
            "gpus": self.gpus,
            "options": options,
            "command": self.command(),
        }


TRAINED_ON = ("dict.*.txt", "train*.bin", "train*.idx", "valid*.bin", "valid*.idx")


def identity_of_corpus(bin_folder, patterns=TRAINED_ON):
    """Files of binary data as one checksum: those that a training reads, or others.

    Raises:
        UserError: there is none of it.
    """
    paths = [path for pattern in patterns for path in sorted(bin_folder.glob(pattern))]
    if not paths:
        raise UserError(f"there is no binary data in {bin_folder}: {manifest.ADVICE}")
    sums = "".join(f"{path.name} {checksum(path, 'sha256')}\n" for path in paths)
    return f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}"


def read_run(folder):
    """What was asked of the run in a folder: its ``run.json``.

    Raises:
        UserError: there is none, or it is damaged or of another version.
    """
    path = Path(folder, "run.json")
    advice = f"delete {folder} to train anew, or choose another --out"
    record = read_json(path, advice)
    missing = [name for name in (*IDENTITY, "experiment", "data") if name not in record]
    if record.get("format") != FORMAT or missing:
        raise UserError(
            f"{path} is of format {record.get('format', 1)}, expected {FORMAT}: it is of another "
            f"version of el_fairseq; go on with that version, or {advice}"
        )
    return record


def train(run, say=print):
    """Train a run to its end, or go on from its newest checkpoint; nothing where it is finished.

    fairseq's whole output is appended to ``train.log``; ``training.json`` says that it finished.
    ``say`` gets a line of progress now and then.

    Raises:
        UserError: another process trains there, another run was trained there, or fairseq-train
            failed; the message ends with the last line that it printed.
        Stopped: SIGUSR1 stopped it after a checkpoint; the same call goes on.
    """
    out, record = run.folder, run.record()
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{out} is being trained by another process; wait for it, or stop it first"
    with locked(out / "lock", busy) as lock:
        _claim(out, record)
        if (out / "training.json").exists():
            return
        repair(out / "checkpoints")
        corpus = manifest.read(run.data)
        command = run.fairseq_command((corpus.source, corpus.target))
        log = out / "train.log"
        progress = Progress(run.name, run.checked, say)
        with log.open("a", encoding="utf-8") as copy:
            print(f"\n{shlex.join(command)}", file=copy, flush=True)
            with processes.started(
                command,
                gentle=signal.SIGUSR1,
                stdin=lock,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **run.environment()},
            ) as child:
                lock.close()  # the child holds the run
                for line in child.stdout:
                    copy.write(line)
                    copy.flush()
                    progress.see(line)
    if child.returncode == processes.STOPPED:
        say(f"{run.name:12} stopped after a checkpoint; the same command goes on")
        raise processes.Stopped(processes.STOPPED)
    if child.returncode:
        raise UserError(f"fairseq-train failed: {_last_words(log, child.returncode)}")
    write_json(out / "training.json", finished(out))


def _claim(out, record):
    """Make ``out`` the run of ``record``, or see that it is that run already.

    Once there is a checkpoint, what was asked may no longer change.
    """
    if not (any(out.glob("checkpoints/*.pt")) or (out / "training.json").exists()):
        (out / "train.log").unlink(missing_ok=True)
        write_json(out / "run.json", record)
        return
    before = read_run(out)
    for name in IDENTITY:
        if before[name] != record[name]:
            was, now = differing(before[name], record[name])
            raise UserError(
                f"{out} was trained with {name} {was}, now it is {now}; delete {out} to train "
                "anew, or choose another --out"
            )


def differing(before, now):
    """Both values as text; of options, those alone that are not in both."""
    if isinstance(before, list) and isinstance(now, list):
        before, now = _grouped(before), _grouped(now)
        only = [[words for words in before if words not in now]]
        only += [[words for words in now if words not in before]]
        return [f"'{shlex.join(word for words in some for word in words)}'" for some in only]
    return [repr(before), repr(now)]


def _grouped(options):
    """Options as lists, of an option and its values each."""
    groups = []
    for word in options:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups


def _last_words(log, status):
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = ([line.strip() for line in lines if line.strip()] or ["it printed nothing"])[-1]
    if status < 0:
        ended = f"{processes.ending(status)} ended it; the same command goes on"
        said = f"{ended} (after: {said})"
    return f"{said} (all it said is in {log})"


def finished(out):
    """What is known of a run at its end: updates, minutes of all its processes, validation.

    ``valid_nll`` (bits a token) and ``valid_accuracy`` (percent) are those of the last
    validation; without one they are left out.
    """
    latest = newest(out / "checkpoints")
    if latest is None:
        raise UserError(f"fairseq-train ended well and left no checkpoint in {out / 'checkpoints'}")
    result = {"updates": latest.updates, "minutes": round(latest.seconds / 60, 1)}
    for name, number in latest.validation.items():
        result[{"nll_loss": "valid_nll", "accuracy": "valid_accuracy"}[name]] = number
    return result


class Progress:
    """Says now and then how far a training is, and how long it will take."""

    def __init__(self, name, options, say):
        self.name, self.options, self.say = name, options, say
        self.first = None
        self.said = 0.0

    def see(self, line):
        """Take a line of fairseq's log."""
        record = training_log.parse(line)
        now = time.monotonic()
        if record is None:
            return
        kind, numbers = record
        if kind == "valid":
            found = [f"nll {numbers['nll_loss']:.3f} bits"] if "nll_loss" in numbers else []
            found += [f"accuracy {numbers['accuracy']:.1f} %"] if "accuracy" in numbers else []
            self._say(f"epoch {numbers['epoch']:3.0f}  validation: {', '.join(found) or 'done'}")
        elif kind == "train_inner":
            if self.first and now - self.said < SECONDS_BETWEEN_PROGRESS:
                return
            done = training_log.share_done(numbers, self.options)
            self.first = self.first or (now, done)
            self.said = now
            left = ""
            if done > self.first[1]:
                seconds = (now - self.first[0]) * (1 - done) / (done - self.first[1])
                left = f", about {max(seconds / 60, 0):.0f} min left"
            self._say(
                f"update {numbers['num_updates']:6.0f}  loss {numbers['loss']:.3f} bits, "
                f"{numbers['wps']:,.0f} tokens/s{left}"
            )

    def _say(self, text):
        self.say(f"{self.name:12} {text}")


def gpus_of(wanted, cpu):
    """How many GPUs a training gets: ``wanted``; 0 on the CPU.

    Raises:
        UserError: there are fewer, or it is to be trained on the CPU.
    """
    here = 0 if cpu else torch.cuda.device_count()
    if not here and wanted > 1:
        raise UserError(
            f"--gpus-per-run is {wanted}, and a CPU trains in one process: leave it out"
        )
    if here and wanted > here:
        raise UserError(f"--gpus-per-run is {wanted}, expected at most {here}, the GPUs here")
    return wanted if here else 0


def check_alone():
    """Raise :class:`UserError` where a launcher started several of this process."""
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if int(os.environ.get(name) or 1) > 1:
            raise UserError(
                f"{name} is {os.environ[name]}: a launcher started several processes, and a run "
                "has one, which trains on the GPUs of one machine (--gpus-per-run). On several, "
                "start fairseq-train itself by the launcher"
            )


def usable(folder):
    """The absolute path of a folder that fairseq can be given.

    Raises:
        UserError: it holds a colon, or is not UTF-8.
    """
    folder = Path(folder).resolve()
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{str(folder)!r} is not UTF-8: rename it, or choose another folder"
        ) from None
    if os.pathsep in str(folder):
        raise UserError(
            f"{folder} holds '{os.pathsep}', where fairseq takes one folder to end and another to "
            "begin: rename it, or choose another folder"
        )
    return folder


def seed(value):
    """Reader of a seed: a whole number below 2^32, which is all that numpy takes."""
    if number_from(0)(value) >= 2**32:
        raise ValueError
    return int(value)


SEED = argument(seed, "a whole number from 0 to 2^32 - 1")


def parser():
    made = argparse.ArgumentParser(
        prog="bash scripts/train.sh",
        usage="%(prog)s EXPERIMENT LOSS SEED [options] [-- fairseq-train options]",
        description="Trains one run, or goes on with it after an interruption. On the GPU at half "
        "precision where there is one, else on the CPU. SIGUSR1 stops a training after a "
        "checkpoint; the same command goes on.",
        epilog="In the run's folder: checkpoints/, train.log, tensorboard/, and training.json when "
        "it is finished. What follows -- goes to fairseq-train, after the experiment's options.",
        allow_abbrev=False,
    )
    made.add_argument("experiment", help=f"{', '.join(names())}, or a .toml file")
    made.add_argument("loss", help="one of the experiment's: ce, el, ...")
    made.add_argument("seed", type=SEED, help="a whole number")
    made.add_argument("--data", type=Path, metavar="DIR", help="the corpus (the experiment's)")
    made.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (runs/EXPERIMENT/LOSS-seedSEED)"
    )
    made.add_argument(
        "--gpus-per-run",
        type=whole_number(1),
        default=1,
        metavar="K",
        help="GPUs that share the batch: --update-freq is divided by K (1)",
    )
    made.add_argument("--cpu", action="store_true", help="train on the CPU, also beside a GPU")
    return made


def main():
    ours, theirs = split_at_dashes(sys.argv[1:])
    arguments = parser().parse_args(ours)
    check_alone()
    experiment = read_experiment(arguments.experiment)
    loss = experiment.loss(arguments.loss)
    name = f"{loss.slug}-seed{arguments.seed}"
    run = Run(
        experiment,
        loss,
        arguments.seed,
        usable(arguments.data or experiment.folder),
        usable(arguments.out or ROOT / "runs" / experiment.name / name),
        gpus_of(arguments.gpus_per_run, arguments.cpu),
        given=tuple(theirs),
    )
    processes.supervise(lambda: train(run, lambda line: print(line, flush=True)))
    print(f"{run.folder.name} is trained: {shown(run.folder)}")


if __name__ == "__main__":
    run_command(main)
