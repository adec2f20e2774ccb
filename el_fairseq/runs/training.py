"""One training run: an experiment, a criterion and a seed, through ``fairseq-train``.

A run is a folder: ``run.json`` (what was asked), ``train.log``, ``checkpoints/``,
``tensorboard/``, and ``training.json`` once it is finished.
"""

import argparse
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from ..common.cli import UserError, run, split_at_dashes
from ..common.files import writing
from . import training_log
from .checkpoints import repair
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

SECONDS_BETWEEN_PROGRESS = 15


def device_options():
    """One GPU at half precision where there is one, the CPU otherwise."""
    if torch.cuda.is_available():
        return ["--fp16", "--distributed-world-size", "1"]
    return ["--cpu"]


def claim(out, asked):
    """Make the folder ``out`` the run that is ``asked`` for, or see that it is that run already.

    Returns the open lock file. It holds the run until it is closed here and the processes that
    inherited it have ended.

    Raises:
        UserError: another process trains there, or something else was asked for there before.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = (out / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{out} is being trained by another process; wait for it, or stop it first"
        ) from None
    record = out / "run.json"
    if not record.exists():
        with writing(record) as file:
            json.dump(asked, file, indent=2)
            file.write("\n")
    before = json.loads(record.read_text(encoding="utf-8"))
    for name, value in asked.items():
        if before.get(name) != value:
            raise UserError(
                f"{out} was trained with {name} {_one_line(before.get(name))}, now it is "
                f"{_one_line(value)}; delete that folder to train anew, or choose another --out"
            )
    return lock


def _one_line(value):
    return f"'{shlex.join(value)}'" if isinstance(value, list) else repr(value)


def train(out, asked, bin_folder, lock):
    """Run fairseq-train to the end, or go on from the last checkpoint; show progress.

    Its whole output is appended to ``train.log``; ``training.json`` says that it finished.

    Raises:
        UserError: fairseq-train failed; the message ends with the last line it printed.
    """
    repair(out / "checkpoints")
    command = ["fairseq-train", str(bin_folder), "--user-dir", str(Path(__file__).parents[1])]
    command += ["--save-dir", str(out / "checkpoints"), "--log-format", "json"]
    command += ["--tensorboard-logdir", str(out / "tensorboard")]
    command += [*device_options(), *asked["options"]]
    progress = Progress(out.name, asked["options"])
    log = out / "train.log"
    with log.open("a", encoding="utf-8") as copy:
        print(shlex.join(command), file=copy, flush=True)
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[lock.fileno()],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        last_line = "it printed nothing"
        try:
            for line in child.stdout:
                copy.write(line)
                copy.flush()
                last_line = line.strip() or last_line
                progress.see(line)
            status = child.wait()
        except BaseException:
            # A full disk stops this process first; none goes on without it and holds the run.
            child.terminate()
            child.wait()
            raise
    if status != 0:
        raise UserError(f"fairseq-train failed: {last_line} (all it said is in {log})")
    last = training_log.epochs(log)[-1]["train"]
    finished = {"updates": int(last["num_updates"]), "minutes": round(last["wall"] / 60, 1)}
    with writing(out / "training.json") as file:
        json.dump(finished, file)
        file.write("\n")


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
    out = arguments.out or runs / name
    data = arguments.data or experiment.corpus
    bin_folder = data / "bin"
    if not bin_folder.is_dir():
        raise UserError(f"there is no {bin_folder}: prepare the data first, or name it by --data")
    asked = {
        "experiment": experiment.name,
        "criterion": arguments.criterion,
        "log_end": arguments.log_end if arguments.criterion == "el" else None,
        "seed": arguments.seed,
        "data": str(data.resolve()),
        "options": [
            *experiment.train_options,
            *criterion_options(arguments.criterion, arguments.log_end),
            *("--seed", str(arguments.seed)),
            *theirs,
        ],
    }
    with claim(out, asked) as lock:
        if not (out / "training.json").exists():
            train(out, asked, bin_folder, lock)
    print(f"{out.name} is trained: {out}")


if __name__ == "__main__":
    run(main)
