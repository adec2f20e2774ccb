"""One training run: an experiment, a criterion and a seed, through ``fairseq-train``.

A run is a folder: ``run.json`` (what was asked), ``train.log``, ``checkpoints/``,
``tensorboard/``, and ``training.json`` once it is finished. How far it is, its checkpoints know.
"""

import argparse
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from ..common import processes
from ..common.cli import UserError, argument, run, split_at_dashes, whole_number
from ..common.locks import locked
from ..common.paths import shown
from ..common.state import read_json, write_json
from ..corpora.checksums import checksum
from . import training_log
from .checkpoints import newest, repair
from .experiment import (
    CRITERIA,
    LOG_END,
    ROOT,
    SEED,
    criterion_options,
    log_end,
    read_experiment,
    run_name,
    seed,
)
from .launch import find_launch, shared_batch

# Of run.json; runs of versions that wrote another one are refused.
FORMAT = 2
# What makes two trainings the same one: the corpus by its content, wherever it lies.
IDENTITY = ("criterion", "log_end", "seed", "corpus", "device", "options", "processes")
STOPPED_AFTER_CHECKPOINT = 75  # sysexits.h's EX_TEMPFAIL: the same command goes on
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_PROGRESS = 15


def claim(out, asked):
    """Make the folder ``out`` the run that is ``asked`` for, or see that it is that run already.

    What was asked before binds as soon as there is a checkpoint that would be lost: options that
    fairseq-train refused do not. Returns the open lock file. It holds the run until it is closed
    here and the processes that inherited it have ended.

    Raises:
        UserError: another process trains there, or something else was trained there before.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = locked(
        out / "lock", f"{out} is being trained by another process; wait for it, or stop it first"
    )
    try:
        if not agree(out, asked):
            (out / "train.log").unlink(missing_ok=True)
            write_json(out / "run.json", asked)
    except BaseException:
        lock.close()
        raise
    return lock


def agree(out, asked):
    """Whether ``out`` is begun as the run that is ``asked`` for; an error where as another."""
    if not any(out.glob("checkpoints/checkpoint*.pt")) and not (out / "training.json").exists():
        return False
    if not (out / "run.json").exists():
        return False
    advice = f"delete {out} to train anew, or choose another --out"
    before = read_run(out)
    for name in IDENTITY:
        if before.get(name) != asked.get(name):
            was, now = differing(before.get(name), asked.get(name))
            raise UserError(f"{out} was trained with {name} {was}, now it is {now}; {advice}")
    return True


def read_run(folder):
    """What was asked of the run in a folder: its ``run.json``.

    Raises:
        UserError: there is none, or it is damaged or of another version.
    """
    path = Path(folder, "run.json")
    advice = f"delete {folder} to train anew, or choose another --out"
    asked = read_json(path, advice)
    missing = [name for name in (*IDENTITY, "experiment", "data") if name not in asked]
    if asked.get("format") != FORMAT or missing:
        raise UserError(
            f"{path} is of format {asked.get('format', 1)}, expected {FORMAT}: it is of another "
            f"version of el_fairseq; go on with that version, or {advice}"
        )
    return asked


def identity_of_corpus(bin_folder):
    """What a training reads of binary data, as one checksum: dictionaries, train and valid sets.

    Raises:
        UserError: there is none of it.
    """
    paths = [
        path
        for pattern in ("dict.*.txt", "train*.bin", "train*.idx", "valid*.bin", "valid*.idx")
        for path in sorted(bin_folder.glob(pattern))
    ]
    if not paths:
        raise UserError(f"{bin_folder} holds no binary data: prepare the corpus again")
    sums = "".join(f"{path.name} {checksum(path, 'sha256')}\n" for path in paths)
    return f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}"


def differing(before, now):
    """Both values as text; of fairseq-train options, those alone that are not in both."""
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


def train(out, asked, bin_folder, lock, launch):
    """Run fairseq-train to the end, or go on from the newest checkpoint; show progress.

    Its whole output is appended to ``train.log`` (of processes but the first, to
    ``train-RANK.log``); ``training.json`` says that it finished. On SIGUSR1 it writes a checkpoint
    and ends, and so does this program, with status 75.

    Raises:
        UserError: fairseq-train failed; the message ends with the last line it printed.
    """
    if launch.keeps_folder:
        repair(out / "checkpoints")
    command = [sys.executable, "-m", f"{__package__}.worker", str(bin_folder)]
    command += ["--user-dir", str(Path(__file__).parents[1])]
    command += ["--save-dir", str(out / "checkpoints"), "--log-format", "json"]
    command += ["--tensorboard-logdir", str(out / "tensorboard")]
    processes.exit_on_signals()
    workers = []
    asked_to_stop = threading.Event()
    # The workers inherit that it is ignored, until they are ready for it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        for rank in launch.ranks:
            log = out / (f"train-{rank}.log" if rank else "train.log")
            options = [*launch.options(rank), *asked["options"]]
            workers.append(Worker(rank, [*command, *options], log, lock))
        signal.signal(signal.SIGUSR1, lambda *_: asked_to_stop.set())
        watcher = threading.Thread(target=_end_all_when_one_fails, args=[workers], daemon=True)
        watcher.start()
        progress = Progress(out.name, asked["options"])
        for line in workers[0].lines():
            progress.see(line)
            if asked_to_stop.is_set():
                workers[0].process.send_signal(signal.SIGUSR1)
        watcher.join()
        if workers[0].process.returncode == STOPPED_AFTER_CHECKPOINT:
            progress.say("stopped after a checkpoint; the same command goes on")
            sys.exit(STOPPED_AFTER_CHECKPOINT)
        failed = next(filter(None, (one.failure() for one in _by_end(workers))), None)
    finally:
        # A full disk can stop this process first; none goes on without it and holds the run.
        processes.end([one.process for one in workers])
    if failed:
        raise UserError(failed)
    if launch.keeps_folder:
        write_json(out / "training.json", finished(out))


class Worker:
    """A process of fairseq-train, whose output goes to a log."""

    def __init__(self, rank, command, log, lock):
        self.rank, self.log, self.ended = rank, log, float("inf")
        with log.open("a", encoding="utf-8") as file:
            print(f"\n{shlex.join(command)}", file=file, flush=True)
            self.process = processes.start(
                command,
                # Holds the run as long as it lives.
                stdin=lock or subprocess.DEVNULL,
                stdout=file if rank else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def lines(self):
        """Yield the lines of its output when they are in the log; returns when it ended."""
        if self.process.stdout is not None:
            with self.log.open("a", encoding="utf-8") as copy:
                for line in self.process.stdout:
                    copy.write(line)
                    copy.flush()
                    yield line
        self.process.wait()

    def failure(self):
        """What went wrong, in one line; ``None`` where nothing did."""
        status = self.process.wait()
        if status == 0:
            return None
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = ([line.strip() for line in lines if line.strip()] or ["it printed nothing"])[-1]
        if status < 0:
            said = f"{processes.ending(status)} ended it; the same command goes on (after: {said})"
        which = f", process {self.rank}" if self.rank else ""
        return f"fairseq-train{which} failed: {said} (all it said is in {self.log})"


def _end_all_when_one_fails(workers):
    left = list(workers)
    while left:
        now = time.monotonic()
        for one in [one for one in left if one.process.poll() is not None]:
            left.remove(one)
            one.ended = now
        if any(one.process.returncode for one in workers):
            processes.end([one.process for one in left])
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _by_end(workers):
    """Those that ended first come first, and of these, those killed: others fail for them."""
    return sorted(workers, key=lambda one: (one.ended, one.process.returncode >= 0))


def finished(out):
    """What is known of a run at its end: updates, minutes of all its processes, validation.

    ``valid_nll`` (bits a token) and ``valid_accuracy`` (percent) are those of the last
    validation; without one they are left out.
    """
    latest = newest(out / "checkpoints")
    if latest is None:
        raise UserError(
            f"fairseq-train left no checkpoint in {out / 'checkpoints'}: take --no-save out of the "
            "options"
        )
    result = {"updates": latest.updates, "minutes": round(latest.seconds / 60, 1)}
    for name, number in latest.validation.items():
        result[{"nll_loss": "valid_nll", "accuracy": "valid_accuracy"}[name]] = number
    return result


class Progress:
    """Prints a line now and then: how far the training is, and how long it will take."""

    def __init__(self, name, options):
        self.name, self.options = name, options
        self.first = None
        self.printed = 0.0

    def see(self, line):
        record = training_log.parse(line)
        now = time.monotonic()
        if record is None:
            return
        kind, numbers = record
        if kind == "valid":
            found = [f"nll {numbers['nll_loss']:.3f} bits"] if "nll_loss" in numbers else []
            found += [f"accuracy {numbers['accuracy']:.1f} %"] if "accuracy" in numbers else []
            self.say(f"epoch {numbers['epoch']:3.0f}  validation: {', '.join(found) or 'done'}")
        elif kind == "train_inner":
            if self.first and now - self.printed < SECONDS_BETWEEN_PROGRESS:
                return
            done = training_log.share_done(numbers, self.options)
            self.first = self.first or (now, done)
            self.printed = now
            left = ""
            if done > self.first[1]:
                seconds = (now - self.first[0]) * (1 - done) / (done - self.first[1])
                left = f", about {max(seconds / 60, 0):.0f} min left"
            self.say(
                f"update {numbers['num_updates']:6.0f}  loss {numbers['loss']:.3f} bits, "
                f"{numbers['wps']:,.0f} tokens/s{left}"
            )

    def say(self, text):
        print(f"{self.name:12} {text}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="python -m el_fairseq.runs.training")
    parser.add_argument("experiment", help="its name or file")
    parser.add_argument("criterion", choices=CRITERIA)
    parser.add_argument("seed", type=argument(seed, SEED))
    parser.add_argument("--data", type=Path, help="corpus folder, with bin/")
    parser.add_argument("--runs", type=Path, help="folder that gets the run, under its own name")
    parser.add_argument("--out", type=Path, help="the run's folder itself")
    parser.add_argument("--log-end", type=argument(log_end, LOG_END), default=0.5)
    parser.add_argument("--processes", type=whole_number(1))
    parser.usage = "%(prog)s EXPERIMENT CRITERION SEED [options] [-- fairseq-train options]"
    ours, theirs = split_at_dashes(sys.argv[1:])
    arguments = parser.parse_args(ours)
    experiment = read_experiment(arguments.experiment)
    name = run_name(arguments.criterion, arguments.log_end, arguments.seed)
    runs = arguments.runs or ROOT / "runs" / experiment.name
    out = usable(arguments.out or runs / name)
    data = usable(arguments.data or experiment.corpus)
    if not (data / "bin").is_dir():
        raise UserError(f"there is no {data / 'bin'}: prepare the data first, or name it by --data")
    launch = find_launch(arguments.processes)
    asked = {
        "format": FORMAT,
        "experiment": experiment.name,
        "criterion": arguments.criterion,
        "log_end": arguments.log_end if arguments.criterion == "el" else None,
        "seed": arguments.seed,
        "data": shown(data),
        "corpus": identity_of_corpus(data / "bin"),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "options": [
            *experiment.train_options,
            *criterion_options(arguments.criterion, arguments.log_end),
            *("--seed", str(arguments.seed)),
            *shared_batch(experiment.train_options, theirs, launch.world),
            *theirs,
        ],
        "processes": launch.world,
    }
    if launch.keeps_folder:
        with claim(out, asked) as lock:
            if not (out / "training.json").exists():
                train(out, asked, data / "bin", lock, launch)
    else:
        out.mkdir(parents=True, exist_ok=True)
        agree(out, asked)
        if not (out / "training.json").exists():
            train(out, asked, data / "bin", None, launch)
    print(f"{out.name} is trained: {out}")


def usable(folder):
    """The absolute path of a folder that fairseq can be given.

    Raises:
        UserError: it holds a colon, or is not UTF-8.
    """
    folder = folder.resolve()
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


if __name__ == "__main__":
    run(main)
