"""One training run: an experiment, a criterion and a seed, through ``fairseq-train``.

A run is a folder: ``run.json`` (what was asked), ``train.log``, ``checkpoints/``,
``tensorboard/``, and ``training.json`` once it is finished. How far it is, its checkpoints know.
"""

import argparse
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
from ..common.cli import UserError, run, split_at_dashes
from ..common.locks import locked
from ..common.state import read_json, write_json
from . import training_log
from .checkpoints import newest, repair
from .experiment import (
    CRITERIA,
    LOG_END,
    ROOT,
    SEED,
    argument,
    criterion_options,
    log_end,
    read_experiment,
    run_name,
    seed,
)

# What makes two trainings the same one.
IDENTITY = ("criterion", "log_end", "seed", "data", "options")
SECONDS_BETWEEN_PROGRESS = 15
STOPPED_AFTER_CHECKPOINT = 75  # sysexits.h's EX_TEMPFAIL: the same command goes on


def device_options():
    """One GPU at half precision where there is one, the CPU otherwise."""
    if torch.cuda.is_available():
        return ["--fp16", "--distributed-world-size", "1"]
    return ["--cpu"]


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
        _agree(out, asked)
    except BaseException:
        lock.close()
        raise
    return lock


def _agree(out, asked):
    record = out / "run.json"
    begun = any(out.glob("checkpoints/checkpoint*.pt")) or (out / "training.json").exists()
    if record.exists() and begun:
        advice = f"delete {out} to train anew, or choose another --out"
        before = read_json(record, advice)
        for name in IDENTITY:
            if before.get(name) != asked.get(name):
                was, now = differing(before.get(name), asked.get(name))
                raise UserError(f"{out} was trained with {name} {was}, now it is {now}; {advice}")
    else:
        (out / "train.log").unlink(missing_ok=True)
        write_json(record, asked)


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


def train(out, asked, bin_folder, lock):
    """Run fairseq-train to the end, or go on from the newest checkpoint; show progress.

    Its whole output is appended to ``train.log``; ``training.json`` says that it finished. After
    SIGUSR1 it ends with the next checkpoint, and this program with status 75.

    Raises:
        UserError: fairseq-train failed; the message ends with the last line it printed.
    """
    repair(out / "checkpoints")
    command = [sys.executable, "-m", f"{__package__}.worker", str(bin_folder)]
    command += ["--user-dir", str(Path(__file__).parents[1])]
    command += ["--save-dir", str(out / "checkpoints"), "--log-format", "json"]
    command += ["--tensorboard-logdir", str(out / "tensorboard")]
    command += [*device_options(), *asked["options"]]
    progress = Progress(out.name, asked["options"])
    log = out / "train.log"
    processes.exit_on_signals()
    asked_to_stop = threading.Event()
    # fairseq-train inherits that it is ignored; Slurm may send it to every process of a task.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with log.open("a", encoding="utf-8") as copy:
        print(f"\n{shlex.join(command)}", file=copy, flush=True)
        child = processes.start(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Holds the run as long as it lives, unlike the processes that it starts to read data:
            # those close their standard input.
            stdin=lock,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        signal.signal(signal.SIGUSR1, lambda *_: asked_to_stop.set())
        last_line = "it printed nothing"
        try:
            for line in child.stdout:
                copy.write(line)
                copy.flush()
                last_line = line.strip() or last_line
                progress.see(line)
                if asked_to_stop.is_set() and "Saved checkpoint" in line:
                    progress.say("stopped after a checkpoint; the same command goes on")
                    sys.exit(STOPPED_AFTER_CHECKPOINT)
            status = child.wait()
        finally:
            # A full disk can stop this process first; none goes on without it and holds the run.
            processes.end([child])
    if status < 0:
        last_line = f"{processes.ending(status)} ended it (after: {last_line})"
    if status != 0:
        raise UserError(f"fairseq-train failed: {last_line} (all it said is in {log})")
    write_json(out / "training.json", finished(out))


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
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--max-update", type=float, default=0)
        parser.add_argument("--max-epoch", type=float, default=0)
        self.end, _ = parser.parse_known_args(options)
        self.name = name
        self.first = None
        self.printed = 0.0

    def done(self, numbers):
        """Share of the training that is done, from a log record."""
        return max(
            numbers["num_updates"] / self.end.max_update if self.end.max_update else 0,
            numbers["update"] / self.end.max_epoch if self.end.max_epoch else 0,
        )

    def see(self, line):
        record = training_log.parse(line)
        now = time.monotonic()
        if record is None:
            return
        kind, numbers = record
        if kind == "valid":
            self.say(
                f"epoch {numbers['epoch']:3.0f}  validation: nll {numbers['nll_loss']:.3f} bits, "
                f"accuracy {numbers['accuracy']:.1f} %"
            )
        elif kind == "train_inner":
            done = self.done(numbers)
            self.first = self.first or (now, done)
            if now - self.printed < SECONDS_BETWEEN_PROGRESS:
                return
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
    asked = {
        "experiment": experiment.name,
        "criterion": arguments.criterion,
        "log_end": arguments.log_end if arguments.criterion == "el" else None,
        "seed": arguments.seed,
        "data": str(data),
        "options": [
            *experiment.train_options,
            *criterion_options(arguments.criterion, arguments.log_end),
            *("--seed", str(arguments.seed)),
            *theirs,
        ],
    }
    with claim(out, asked) as lock:
        if not (out / "training.json").exists():
            train(out, asked, data / "bin", lock)
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
