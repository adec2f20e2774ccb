"""Time and memory of an analysis of tokens, beside fairseq-validate on the same data.

Runs both as programs of their own, in turn, and prints the medians of wall time, processor time
and peak memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ..common.cli import UserError, run
from ..common.tables import Table

PACKAGE = Path(__file__).parents[1]


def measure(command):
    """Wall seconds, processor seconds and peak resident megabytes of a command.

    Raises:
        UserError: the command failed; the message ends with the last line it printed.
    """
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        if status != 0:
            output.seek(0)
            said = output.read().strip().split("\n")[-1] or "it printed nothing"
            raise UserError(f"{Path(command[0]).name} failed: {said}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def beside_python(program):
    """Path of a program of this environment, which need not be activated."""
    path = Path(sys.executable).with_name(program)
    return str(path) if path.exists() else program


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.benchmarks.analysis", description=__doc__
    )
    parser.add_argument("data", help="folder that fairseq-preprocess made")
    parser.add_argument("checkpoint")
    parser.add_argument("--subset", default="test", help="which part of it (%(default)s)")
    parser.add_argument("--task", default="translation", help="of the model (%(default)s)")
    parser.add_argument("--max-tokens", default="4096", help="a batch (%(default)s)")
    parser.add_argument("--times", type=int, default=5, help="how often each (%(default)s)")
    arguments = parser.parse_args()
    device = [] if torch.cuda.is_available() else ["--cpu"]
    batch = ["--max-tokens", arguments.max_tokens, *device]
    with tempfile.TemporaryDirectory() as out:
        commands = {
            "fairseq-validate": [
                *(
                    beside_python("fairseq-validate"),
                    arguments.data,
                    "--path",
                    arguments.checkpoint,
                ),
                *("--valid-subset", arguments.subset, "--required-batch-size-multiple", "1"),
                *("--user-dir", str(PACKAGE), "--task", arguments.task, *batch),
            ],
            "el_fairseq.analysis": [
                *(sys.executable, "-m", "el_fairseq.analysis", arguments.data),
                *("--subset", arguments.subset, "--model", f"model={arguments.checkpoint}"),
                *("--noise-sentences", "0", "--valid-subset", "", "--out", out, *batch),
            ],
        }
        found = {name: [] for name in commands}
        for _ in range(arguments.times):
            for name, command in commands.items():
                found[name].append(measure(command))
    medians = [[statistics.median(column) for column in zip(*found[name])] for name in commands]
    rows = [
        [name, *(f"{value:.1f}" for value in values)] for name, values in zip(commands, medians)
    ]
    rows.append(["ratio", *(f"{ours / theirs:.2f}" for theirs, ours in zip(*medians))])
    print(Table("", ["", "wall, s", "CPU, s", "MB"], rows).text("simple"), end="")


if __name__ == "__main__":
    run(main)
