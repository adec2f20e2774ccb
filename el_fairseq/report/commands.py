"""The commands that make a part of the report again, as a user can type them."""

import shlex
from pathlib import Path

from ..common.paths import shown
from ..common.state import read_json


def train(folder, results, record):
    """The command that trains a run."""
    words = ["bash", "scripts/train.sh", results["experiment"], record["criterion"]]
    words += [str(record["seed"]), "--data", shown(results["data"])]
    words += ["--out", shown(Path(folder, record["run"]))]
    if record["log_end"] is not None:
        words += ["--log-end", str(record["log_end"])]
    extra = extra_options(record["options"], record["seed"])
    return shlex.join(words + (["--", *extra] if extra else []))


def extra_options(options, seed):
    """What a user gave after ``--`` in training: it stands behind criterion and seed."""
    behind = options.index("--criterion")
    while options[behind : behind + 2] != ["--seed", str(seed)]:
        behind += 1
    return options[behind + 2 :]


def evaluate(folder, record, test, checkpoints):
    """The command that translates and scores a test set with a run's checkpoints."""
    run = Path(folder, record["run"])
    words = ["bash", "scripts/evaluate.sh", shown(run), "--subset", test]
    last = checkpoints[len("averaged") :]
    words += ["--last", last] if last.isdigit() else ["--best"]
    asked = run / "evaluation" / f"{test}-{checkpoints}" / "evaluation.json"
    options = read_json(asked, "evaluate that run again")["options"] if asked.is_file() else []
    return shlex.join(words + (["--", *options] if options else []))
