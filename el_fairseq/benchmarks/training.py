"""Words per second of whole trainings, cross-entropy and encouraging loss taking turns.

The demo's model trains on the demo's data, without validation and checkpoints. It takes about ten
minutes on two CPU cores; run nothing else on them meanwhile.
"""

import statistics
import subprocess
import sys
from pathlib import Path

import torch

from ..common.cli import UserError, command_line, parse, run, whole_number
from ..common.paths import ROOT
from ..common.tables import Table
from ..experiments import training_log
from ..experiments.config import read_experiment
from ..experiments.train import failure

PAIR = "fr-en"
CRITERIA = {"ce": "label_smoothed_cross_entropy", "el": "encouraging_loss"}


def train(command, log):
    """Run a training with a JSON log in a file; returns its words per second.

    This is the median over the records of the log, without the first, in which memory is mapped.
    """
    with log.open("w") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    lines = log.read_text(errors="replace").splitlines()
    if status:
        raise failure("fairseq-train", log, status)
    records = map(training_log.parse, lines)
    of_updates = [record[1] for record in records if record and record[0] == "train_inner"]
    speeds = [numbers["wps"] for numbers in of_updates[1:]]
    if not speeds:
        raise UserError(f"{log} has fewer than two records of training: raise --updates")
    return statistics.median(speeds)


def main():
    usage = "[options] [-- fairseq-train options]"
    parser = command_line("bash scripts/benchmark-training.sh", __doc__, usage)
    add, number = parser.add_argument, whole_number(1)
    add("--rounds", type=number, default=5, help="trainings of each loss (default: %(default)s)")
    add("--updates", type=number, default=100, help="updates of each (default: %(default)s)")
    corpus, logs = ROOT / f"data/home-assistant-{PAIR}", ROOT / "runs/benchmark-training"
    add("--data", type=Path, default=corpus, help="corpus (default: the demo's, made if missing)")
    add("--out", type=Path, default=logs, help="where logs go (default: runs/benchmark-training)")
    options, more = parse(parser)
    if options.data == corpus and not corpus.exists():
        subprocess.run(["bash", ROOT / "data-prep/home-assistant.sh", PAIR], check=True)
    if not (options.data / "bin").is_dir():
        raise UserError(f"{options.data} has no bin/: name a corpus made by data-prep/")
    options.out.mkdir(parents=True, exist_ok=True)
    device = ["--fp16", "--distributed-world-size", "1"] if torch.cuda.is_available() else ["--cpu"]
    command = [
        *(sys.executable, "-m", "fairseq_cli.train", options.data / "bin", *device),
        *("--user-dir", ROOT / "el_fairseq"),
        *read_experiment(f"home-assistant-{PAIR}").train.options,
        *("--max-update", str(options.updates), "--log-interval", "10", "--log-format", "json"),
        # fairseq makes a folder for checkpoints even if it saves none.
        *("--no-save", "--save-dir", options.out, "--disable-validation", "--seed", "1"),
    ]
    speeds, rows = {name: [] for name in CRITERIA}, []
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", file=sys.stderr)
        for name, criterion in CRITERIA.items():
            log = options.out / f"{name}-{number}.log"
            speeds[name].append(train([*command, "--criterion", criterion, *more], log))
    base = statistics.median(speeds["ce"])
    for name, values in speeds.items():
        median = statistics.median(values)
        shown = f"{median:.0f} ({min(values):.0f} to {max(values):.0f})"
        rows.append([name, shown, f"{base / median:.3f}"])
    columns = ["criterion", "words per second (least to most)", "time an update"]
    print(Table("", columns, rows).text("github"))


if __name__ == "__main__":
    run(main)
