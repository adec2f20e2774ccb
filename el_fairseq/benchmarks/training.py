"""Words per second of whole trainings, cross-entropy and encouraging loss taking turns.

The demo's model trains on the demo's data, without validation and checkpoints. It takes about ten
minutes on two CPU cores; run nothing else on them meanwhile.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

from ..common.cli import UserError, command_line, parse, run, whole_number
from ..common.paths import ROOT
from ..common.tables import Table
from ..corpora import manifest
from ..experiments import training_log
from ..experiments.config import read_experiment, slug
from ..experiments.train import Run, failure, gpus_of_runs

PAIR = "fr-en"


def train(command, log, env=None):
    """Run a training with a JSON log in a file; returns its words per second.

    This is the median over the records of the log, without the first, in which memory is mapped.
    """
    with log.open("w") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=env).returncode
    lines = log.read_text(errors="replace").splitlines()
    if status:
        raise failure("fairseq-train", log, abs(status))
    records = filter(None, map(training_log.parse, lines))
    speeds = [numbers["wps"] for kind, numbers in records if kind == "train_inner"][1:]
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
    experiment, read = read_experiment(f"home-assistant-{PAIR}"), manifest.read(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    gpus, languages = gpus_of_runs(1)[0], (read.source, read.target)
    more = [
        *("--max-update", str(options.updates), "--log-interval", "10", "--tensorboard-logdir", ""),
        # fairseq makes a folder for checkpoints even if it saves none.
        *("--no-save", "--save-dir", options.out, "--disable-validation", *more),
    ]
    speeds, rows = {loss: [] for loss in experiment.losses}, []
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", file=sys.stderr)
        for loss, of_loss in speeds.items():
            one = Run(experiment, loss, 1, options.data, options.out, gpus)
            command = [*one.fairseq_command(languages), *more]
            log = options.out / f"{slug(loss)}-{number}.log"
            of_loss.append(train(command, log, {**os.environ, **one.environment()}))
    base = statistics.median(next(iter(speeds.values())))
    for name, values in speeds.items():
        median = statistics.median(values)
        shown = f"{median:.0f} ({min(values):.0f} to {max(values):.0f})"
        rows.append([name, shown, f"{base / median:.3f}"])
    columns = ["loss", "words per second (least to most)", "time an update"]
    print(Table("", columns, rows).text("github"))


if __name__ == "__main__":
    run(main)
