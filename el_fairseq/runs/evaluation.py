"""A trained run to scores: averages checkpoints, translates by fairseq-generate, scores all.

``RUN/evaluation/TEST-averagedN`` holds ``generate-SUBSET.txt``, ``hypotheses.LANGUAGE``,
``references.LANGUAGE``, ``scores.json``, ``scores.txt``, and ``evaluation.json``: what was
evaluated, so that these scores are shown again for that alone.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from ..common import processes
from ..common.cli import UserError, run, split_at_dashes, whole_number
from ..common.locks import locked
from ..common.paths import ROOT, shown
from ..common.state import read_json, write_json
from ..corpora import manifest
from . import scoring
from .average import average_last
from .checkpoints import load
from .training import differing, read_run, usable

OPTIONS = ["--beam", "5", "--batch-size", "128"]


def evaluate(folder, data, last, test, options=(), name=None):
    """Translate and score a test set with a finished run, unless that is done; returns its folder.

    The folder is ``evaluation/TEST-averagedN`` or ``TEST-best`` in the run's, with ``-NAME``.

    Args:
        folder: the run's folder.
        data: the corpus's folder; ``None``: the one that the run was trained on.
        last: how many epoch checkpoints to average; 0: take ``checkpoint_best.pt``.
        test: name of a test set of the corpus, or ``"valid"``.
        options: more options for fairseq-generate.
        name: an addition to the folder's name.

    Raises:
        UserError: the run is not trained to its end, or something that is needed is missing or
            damaged; or the folder holds the scores of another corpus or of other options.
    """
    if not (folder / "run.json").exists():
        raise UserError(f"{folder} is no run: train it first (bash scripts/train.sh --help)")
    asked = read_run(folder)
    training = read_json(
        folder / "training.json",
        "that run is not trained to its end; its scripts/train.sh command goes on with it",
    )
    data = usable(data or ROOT / asked["data"])
    corpus = manifest.read(data)
    corpus.subset_of(test)
    kind = f"averaged{last}" if last else "best"
    out = usable(folder / "evaluation") / "-".join(filter(None, [test, kind, name]))
    wanted = {"test": test, "checkpoints": kind, "data": shown(data), "options": list(options)}
    wanted["training"] = training
    out.parent.mkdir(exist_ok=True)
    message = f"{out} is being made by another process; wait for it, or stop it first"
    with locked(out.with_name(f".{out.name}.lock"), message) as lock:
        if not _is_made(out, wanted):
            unfinished = out.with_name(f".{out.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            checkpoint = folder / "checkpoints" / "checkpoint_best.pt"
            if last:
                checkpoint = unfinished / "averaged.pt"
                average_last(folder / "checkpoints", last, checkpoint)
            else:
                load(checkpoint)
            _translate(unfinished, checkpoint.resolve(), corpus, test, options, lock)
            scoring.score(unfinished, corpus, test)
            write_json(unfinished / "evaluation.json", wanted)
            shutil.rmtree(out, ignore_errors=True)
            unfinished.replace(out)
    return out


def _is_made(out, wanted):
    record = out / "evaluation.json"
    if not record.exists():  # also of versions before this one, which did not say what they scored
        return False
    before = read_json(record, f"delete {out} to evaluate again")
    for name in ("data", "options"):
        if before.get(name) != wanted[name]:
            was, now = differing(before.get(name), wanted[name])
            raise UserError(
                f"{out} holds scores with {name} {was}, now it is {now}; give a --name to have "
                "these beside them, or delete that folder"
            )
    read_json(out / "scores.json", f"delete {out} to evaluate again")
    return before == wanted


def _translate(folder, checkpoint, corpus, test, options, lock):
    command = [sys.executable, "-m", "fairseq_cli.generate", str(corpus.bin)]
    command += ["--user-dir", str(Path(__file__).parents[1]), "--path", str(checkpoint)]
    command += ["--gen-subset", corpus.subset_of(test), *OPTIONS]
    command += ["--remove-bpe", corpus.remove_bpe] if corpus.remove_bpe else []
    command += ["--required-batch-size-multiple", "1", "--num-workers", "0"]
    command += ["--results-path", str(folder)]
    command += [*([] if torch.cuda.is_available() else ["--cpu"]), *options]
    print(f"Translating {test} with {checkpoint}.", file=sys.stderr)
    log = folder / "generate.log"
    with log.open("w") as output:
        child = processes.start(command, stdout=output, stderr=subprocess.STDOUT, stdin=lock)
        try:
            status = child.wait()
        finally:
            processes.end([child])
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last_line = ([line for line in lines if line.strip()] or ["it printed nothing"])[-1].strip()
        raise UserError(
            f"fairseq-generate failed ({processes.ending(status)}): {last_line} "
            f"(all it said is in {log})"
        )


def main():
    parser = argparse.ArgumentParser(prog="bash scripts/evaluate.sh", allow_abbrev=False)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--data", type=Path, help="corpus")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--last", type=whole_number(1), default=3)
    kind.add_argument("--best", action="store_true")
    parser.add_argument("--subset", default="test")
    parser.add_argument("--name")
    parser.usage = "%(prog)s RUN [options] [-- fairseq-generate options]"
    ours, theirs = split_at_dashes(sys.argv[1:])
    arguments = parser.parse_args(ours)
    processes.exit_on_signals()
    last = 0 if arguments.best else arguments.last
    out = evaluate(arguments.run, arguments.data, last, arguments.subset, theirs, arguments.name)
    print((out / "scores.txt").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    run(main)
