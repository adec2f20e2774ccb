"""The commands that make a part of the report again, as a user can type them."""

import shlex
from pathlib import Path

from ..common.paths import ROOT, shown
from ..common.state import read_json


def train(folder, results, record):
    """The command that trains a run."""
    words = ["bash", "scripts/train.sh", results["word"], record["criterion"]]
    words += [str(record["seed"]), "--data", shown(results["data"])]
    words += ["--out", shown(Path(folder, record["run"]))]
    if record["log_end"] is not None:
        words += ["--log-end", str(record["log_end"])]
    if record.get("processes", 1) > 1:
        words += ["--processes", str(record["processes"])]
    extra = extra_options(record["options"], record["seed"])
    return shlex.join(words + (["--", *extra] if extra else []))


def more_seeds(folder, results):
    """The command that trains five seeds, those of the folder included."""
    words = ["bash", "scripts/reproduce.sh", results["word"], "--seeds", "1,2,3,4,5"]
    if not results["data"]:  # kept results: there are no runs to go on with
        return shlex.join(words)
    if Path(results["data"]) != ROOT / "data" / results["experiment"]:
        words += ["--data", shown(results["data"])]
    if Path(folder).resolve() != ROOT / "runs" / results["experiment"]:
        words += ["--runs", shown(folder)]
    first, extra = results["runs"][0], []
    if first.get("processes", 1) == 1:  # others have their share of the batch among the options
        extra = extra_options(first["options"], first["seed"])
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
