"""A tiny experiment, from archive to table, ended at random moments, until it differs.

``bash scripts/soak.sh`` runs this. The report, which is no part of a result, is left out.
"""

import argparse
import contextlib
import ctypes
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import torch
from iwslt_archives import de_en, write_archive
from sizes import transformer, words_of

from el_fairseq.safe_load import load

PROGRAM = """
from el_fairseq.experiments import run
run.make_report = lambda folder: None
run.run(lambda: run.processes.supervise(run.main))
"""
EXPERIMENT = f"""
title = "Soak"
corpus.command = "bash data-prep/iwslt14-de-en.sh"
train.options = '''
--arch transformer_iwslt_de_en --share-decoder-input-output-embed
{" ".join(words_of(transformer(8)))}
--optimizer adam --lr 0.02 --lr-scheduler inverse_sqrt --warmup-updates 10
--label-smoothing 0.1 --dropout 0.1 --max-tokens 500 --required-batch-size-multiple 1
--max-update 60 --save-interval-updates 3 --keep-last-epochs 3 --num-workers 0 --log-interval 1
'''
evaluate = {{last = 2, options = "--beam 1 --max-len-a 0 --max-len-b 8"}}
runs = {{seeds = [1], jobs = 2, cpu = true}}
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
KILLS = 12  # at most, in a cycle
SECONDS_TO_END = 30
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def outliving():
    """Names of processes that are still there after some seconds; they are killed."""
    end, own = time.monotonic() + SECONDS_TO_END, psutil.Process()
    while time.monotonic() < end and own.children(recursive=True):
        psutil.wait_procs(own.children(recursive=True), 1)
    names = []
    for process in own.children(recursive=True):
        names.append(" ".join(process.cmdline())[:100])
        process.kill()
    return names


class Experiment:
    """The experiment in a folder of its own, started and started again."""

    def __init__(self, archive, folder, data):
        self.folder, self.data, self.output = folder, data or folder / "data", folder / "output"
        folder.mkdir(parents=True, exist_ok=True)
        self.words = [archive.with_name("soak.toml"), "--archive", archive]
        self.words += ["--data", self.data, "--runs", folder / "runs"]

    def start(self, file_size=None):
        """Start it, with a limit on the size of files, which is how a disk is full here."""
        with self.output.open("w") as output:
            command = [sys.executable, "-c", PROGRAM, *map(str, self.words)]
            started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        if file_size:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.prlimit(started.pid, resource.RLIMIT_FSIZE, (file_size, hard))
        return started

    def said(self):
        return self.output.read_text(errors="replace")

    def result(self):
        """All that must not depend on interruptions, by name."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.suffix == ".pt":
                state = load(path)
                found[name] = [state["model"], state.get("last_optimizer_state")]
            elif path.suffix == ".json":
                text = path.read_text().replace(str(self.data), "DATA")
                text = text.replace(str(self.folder), "")
                found[name] = re.sub(r'"minutes": [\d.]+', "", text)
            elif path.name.startswith(("hypotheses.", "references.", "generate-")):
                found[name] = re.sub(r" in [\d.]+s.*", "", path.read_text())
        return found


def same(one, two):
    if torch.is_tensor(one):
        return torch.is_tensor(two) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def disturb(draw, experiment, seconds):
    """Start the experiment and end it, or something of it, after up to ``seconds``.

    Returns how, and what went wrong (``None`` where nothing did).
    """
    how = draw.choice(["tree", "tree", "one", "one", "one", "disk"])
    number, delay, choice = draw.choice(SIGNALS), draw.uniform(0, seconds), draw.random()
    size = draw.choice([1000, 5000, 20000, 60000, 100000]) if how == "disk" else None
    name = "full disk" if size else f"{number.name} to {how}"
    running = experiment.start(size)
    try:
        running.wait(600 if size else delay)
    except subprocess.TimeoutExpired:
        there = sorted(psutil.Process().children(recursive=True), key=lambda process: process.pid)
        at = int(choice * len(there))
        for process in there if how == "tree" else there[at : at + 1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
    try:
        running.wait(600)
    except subprocess.TimeoutExpired:
        return name, f"{name}: it hung: {outliving()} {experiment.said()}"
    left = outliving()
    if left:
        return name, f"{name}: {', '.join(left)} outlived it"
    said = experiment.said()
    return name, f"{name}: a traceback: {said}" if "Traceback" in said else None


def cycle(seed, expected, experiment, seconds, tried):
    """One experiment with its interruptions; returns what went wrong, a line each."""
    draw = random.Random(seed)
    for _ in range(draw.randint(2, KILLS)):
        name, wrong = disturb(draw, experiment, seconds)
        tried[name] += 1
        if wrong:
            return [wrong]
    status = experiment.start().wait(1200)
    outliving()
    if status:
        return [f"the same command could not leave it (status {status}): {experiment.said()}"]
    found = experiment.result()
    names = [name for name in expected if name in found or not name.startswith("data/")]
    return [f"{n} differs" for n in names if n not in found or not same(expected[n], found[n])]


def main():
    parser = argparse.ArgumentParser(
        prog="bash scripts/soak.sh",
        description="Interrupt a tiny experiment by signals and a full disk, over and over, run it "
        "again to its end, and compare what it leaves with an undisturbed one.",
        allow_abbrev=False,
    )
    parser.add_argument("--minutes", type=float, default=15, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first cycle (1)")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    end = time.monotonic() + 60 * options.minutes
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become children of this process
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    archive = write_archive(folder / "de-en.tgz", de_en(test_size=4))
    archive.with_name("soak.toml").write_text(EXPERIMENT)
    undisturbed = Experiment(archive, folder / "undisturbed", None)
    began = time.monotonic()
    if undisturbed.start().wait():
        sys.exit(f"error: undisturbed, the experiment fails: {undisturbed.said()}")
    seconds, expected = time.monotonic() - began, undisturbed.result()
    print(f"Undisturbed: {seconds:.0f} s, {len(expected)} results to compare.")
    tried, failures, seed = Counter(), 0, options.seed
    while time.monotonic() < end:
        where, before = folder / f"seed-{seed}", tried.total()
        data = None if seed % 4 == 0 else undisturbed.data  # or from the archive each time
        wrong = cycle(seed, expected, Experiment(archive, where, data), seconds, tried)
        count = tried.total() - before
        print(f"seed {seed}: {count} interruptions, {'; '.join(wrong) or 'no difference'}")
        failures += bool(wrong)
        if not wrong:
            shutil.rmtree(where)
        seed += 1
    print("\n".join(f"{count:5} {name}" for name, count in sorted(tried.items())))
    print(f"{tried.total()} interruptions in {seed - options.seed} cycles, {failures} failed.")
    if failures:
        sys.exit(f"error: see {folder}; bash scripts/soak.sh --seed N begins with cycle N")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
