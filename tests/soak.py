"""A tiny experiment, from archive to table, ended at random moments, until it differs.

``bash scripts/soak.sh`` runs this. Programs are imported once and forked from this process, so
that a start costs a moment instead of seconds; apart from that, processes, signals, files and
locks are the real ones. The report, which is no part of a result, is left out.
"""

import argparse
import contextlib
import ctypes
import importlib
import json
import os
import random
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

import torch
from iwslt_archives import de_en, write_archive

ROOT = Path(__file__).parents[1]
PROGRAMS = [
    *("fairseq_cli.train", "fairseq_cli.generate", "fairseq_cli.preprocess"),
    *("el_fairseq.criterion", "el_fairseq.experiments.reproduce"),
    *("el_fairseq.experiments.comparison", "el_fairseq.runs.evaluation"),
    *("el_fairseq.corpora.iwslt14", "el_fairseq.corpora.prepare", "tensorboardX", "sacremoses"),
    *("subword_nmt.learn_bpe", "subword_nmt.apply_bpe", "torch._dynamo"),
]
EXPERIMENT = """
title = "Soak"
[corpus]
command = "bash data-prep/iwslt14-de-en.sh"
[train]
options = '''
--arch transformer_iwslt_de_en --share-decoder-input-output-embed
--encoder-layers 1 --decoder-layers 1 --encoder-embed-dim 8 --decoder-embed-dim 8
--encoder-ffn-embed-dim 8 --decoder-ffn-embed-dim 8
--encoder-attention-heads 2 --decoder-attention-heads 2
--optimizer adam --lr 0.02 --lr-scheduler inverse_sqrt --warmup-updates 10
--label-smoothing 0.1 --dropout 0.1 --max-tokens 1000 --required-batch-size-multiple 1
--max-update 14 --save-interval-updates 3 --keep-last-epochs 3 --num-workers 0 --log-interval 1
'''
[evaluate]
last = 2
best = true
options = "--beam 1 --max-len-a 0 --max-len-b 8"
[runs]
seeds = [1]
cpu = true
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILLS = 16  # at most, in a cycle
SECONDS_TO_END = 20
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36  # linux/prctl.h
_libc = ctypes.CDLL(None)
_popen = subprocess.Popen


class Forked:
    """What ``subprocess.Popen`` gives, for a Python program that runs in a fork of this process."""

    def __init__(self, module, arguments, options):
        self.args, self.returncode = [module, *arguments], None
        self._lock = threading.Lock()
        outputs = [options.get("stdout"), options.get("stderr")]
        reading = None
        if outputs[0] == subprocess.PIPE:
            reading, outputs[0] = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(module, arguments, options, outputs)
        self.stdout = None
        if reading is not None:
            os.close(outputs[0])
            self.stdout = os.fdopen(reading, errors=options.get("errors"))

    def _become(self, module, arguments, options, outputs):
        status = 1
        try:
            _libc.prctl(PR_SET_NAME, module.rpartition(".")[2].encode())
            for number in (*SIGNALS, signal.SIGUSR1):
                if number not in (signal.SIGKILL, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
            if options.get("start_new_session"):
                os.setsid()
            stdin = options.get("stdin")
            if hasattr(stdin, "fileno"):
                os.dup2(stdin.fileno(), 0)
            for number, output in enumerate(outputs, 1):
                if output == subprocess.STDOUT:
                    os.dup2(1, number)
                elif output is not None:
                    os.dup2(output if isinstance(output, int) else output.fileno(), number)
            # The objects before would take a pipe for the file that they were opened on.
            sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            kept = {0, 1, 2, *options.get("pass_fds", ())}
            for number in set(range(256)) - kept:
                try:
                    os.close(number)
                except OSError:
                    continue
            if options.get("preexec_fn"):
                options["preexec_fn"]()
            if options.get("env") is not None:
                os.environ.clear()
                os.environ.update(options["env"])
            os.chdir(options.get("cwd") or ".")
            warnings.simplefilter("ignore", RuntimeWarning)  # that the module is imported already
            sys.argv = [module, *map(str, arguments)]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # on a full disk
                    stream.flush()
            os._exit(status)

    def poll(self):
        with self._lock:
            if self.returncode is None:
                number, status = os.waitpid(self.pid, os.WNOHANG)
                if number:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def start(command, **options):
    """``subprocess.Popen``, by a fork where the command is a Python module or a script of one."""
    command = list(map(str, command))
    if command[0] == sys.executable and command[1] == "-m":
        return Forked(command[2], command[3:], options)
    if command[0] == "bash" and Path(command[1]).name == "report.sh":
        command = ["true"]
    elif command[0] == "bash":
        text = Path(command[1]).read_text()
        module, more = re.search(r'^exec "\$python" -m (\S+)(.*)"\$@"$', text, re.M).groups()
        more = more.replace('"', "").replace("$root", str(ROOT)).split()
        return Forked(module, [*more, *command[2:]], options)
    return _popen(command, **options)


def copy_slowly(source, target, length=0):
    """``shutil.copyfileobj`` that takes its time: a checkpoint is half written for a while."""
    content = source.read()
    for part in range(4):
        target.write(content[part * len(content) // 4 : (part + 1) * len(content) // 4])
        target.flush()
        time.sleep(0.05)


def descendants():
    """Ids of all processes below this one, orphans included, which Linux hands to it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(folder.name)] = int(parent)
    found, new = set(), {os.getpid()}
    while new:
        new = {number for number, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


def wait_until_none_is_left():
    """Names of those processes that are still there after some seconds; they are killed."""
    end = time.monotonic() + SECONDS_TO_END
    while descendants() and time.monotonic() < end:
        time.sleep(0.05)
    names = []
    for number in descendants():
        status = Path(f"/proc/{number}/status").read_text().split("\n")
        names.append(" ".join(line for line in status if line.startswith(("Name", "State"))))
        os.kill(number, signal.SIGKILL)
    return names


class Experiment:
    """The experiment in a folder of its own, started and started again."""

    def __init__(self, archive, folder, data):
        self.folder, self.data, self.output = folder, data or folder / "data", folder / "output"
        folder.mkdir(parents=True, exist_ok=True)
        self.arguments = [archive.with_name("soak.toml"), "--archive", archive]
        self.arguments += ["--data", self.data, "--runs", folder / "runs"]

    def start(self, file_size=None):
        """Start it, with a limit on the size of files, which is how a disk is full here."""

        def limit():
            if file_size:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        with self.output.open("w") as output:
            options = {"stdout": output, "stderr": subprocess.STDOUT, "preexec_fn": limit}
            return Forked("el_fairseq.experiments.reproduce", self.arguments, options)

    def said(self):
        return self.output.read_text(errors="replace")

    def result(self):
        """All that must not depend on interruptions, by name."""
        found = {}
        for path in sorted([*self.folder.rglob("*"), *self.data.rglob("*")]):
            name = path.relative_to(path.parents[0]).as_posix()
            if path.is_relative_to(self.folder):
                name = path.relative_to(self.folder).as_posix()
            if path.suffix == ".pt":
                state = torch.load(path, weights_only=True)
                found[name] = [state["model"], state.get("last_optimizer_state")]
            elif path.suffix in (".json", ".csv", ".md"):
                text = path.read_text().replace(str(self.data), "DATA")
                text = text.replace(str(self.folder), "")
                if path.suffix == ".json":
                    found[name] = without_times(json.loads(text))
                else:  # minutes stand in the last column of their tables
                    found[name] = re.sub(r"(\| +|,)\d+\.\d( \|)?$", "", text, flags=re.M)
            elif path.name.startswith(("hypotheses.", "references.", "generate-")):
                found[name] = re.sub(r" in [\d.]+s.*", "", path.read_text())
        return found


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key != "minutes"}
    if isinstance(value, list):
        return [without_times(part) for part in value]
    return value


def same(one, two):
    if torch.is_tensor(one):
        return torch.is_tensor(two) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def differing(expected, found):
    """Names of results that are missing or differ."""
    return [name for name in expected if name not in found or not same(expected[name], found[name])]


def disturb(draw, experiment, seconds, tried):
    """Start the experiment and end it, or something of it, after up to ``seconds``.

    Returns what went wrong, ``None`` where nothing did.
    """
    how = draw.choice(["tree", "tree", "one", "one", "one", "disk"])
    number = draw.choice(SIGNALS)
    delay = draw.uniform(0, seconds)
    size = draw.choice([1000, 5000, 20000, 60000, 100000]) if how == "disk" else None
    choice = draw.random()
    running = experiment.start(size)
    name = f"disk full at {size}" if size else f"{number.name} to {how}"
    tried[name.partition(" at ")[0]] = tried.get(name.partition(" at ")[0], 0) + 1
    try:
        running.wait(delay if not size else 600)
    except subprocess.TimeoutExpired:
        there = descendants()
        at = int(choice * len(there))
        for process in there if how == "tree" else there[at : at + 1]:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue
    try:
        running.wait(600)
    except subprocess.TimeoutExpired:
        wait_until_none_is_left()
        return f"{name}: it hung"
    left = wait_until_none_is_left()
    if left:
        return f"{name}: {', '.join(left)} outlived it"
    if "Traceback" in experiment.said():
        return f"{name}: a traceback: {experiment.said()}"
    return None


def cycle(seed, expected, archive, folder, data, seconds, tried):
    """One experiment with its kills; returns what went wrong, a line each."""
    draw = random.Random(seed)
    slow = draw.random() < 0.5
    from_archive = draw.random() < 0.25
    shutil.copyfileobj = copy_slowly if slow else COPY
    experiment = Experiment(archive, folder, None if from_archive else data)
    kills = draw.randint(2, KILLS)
    for _ in range(kills):
        wrong = disturb(draw, experiment, seconds, tried)
        if wrong:
            return [wrong]
    shutil.copyfileobj = COPY
    running = experiment.start()
    status = running.wait(1200)
    wait_until_none_is_left()
    if status:
        return [f"the same command could not leave it (status {status}): {experiment.said()}"]
    found = experiment.result()
    names = [name for name in expected if from_archive or not name.startswith("data/")]
    return [f"{name} differs" for name in differing({n: expected[n] for n in names}, found)]


COPY = shutil.copyfileobj


def main():
    parser = argparse.ArgumentParser(
        prog="bash scripts/soak.sh",
        description="Interrupt a tiny experiment by signals and a full disk, over and over, run it "
        "again to its end, and compare what it leaves with an undisturbed one.",
        allow_abbrev=False,
    )
    parser.add_argument("--minutes", type=float, default=5, help="how long (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="which interruptions; cycle after cycle takes the next seed (default: %(default)s)",
    )
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become children of this process
    for name in PROGRAMS:
        importlib.import_module(name)
    subprocess.Popen = start
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    archive = write_archive(folder / "de-en.tgz", de_en(test_size=4))
    archive.with_name("soak.toml").write_text(EXPERIMENT)
    undisturbed = Experiment(archive, folder / "undisturbed", None)
    began = time.monotonic()
    status = undisturbed.start().wait()
    seconds = time.monotonic() - began
    if status:
        sys.exit(
            f"error: undisturbed, the experiment ends with status {status}: {undisturbed.said()}"
        )
    expected = undisturbed.result()
    print(f"Undisturbed: {seconds:.0f} s, {len(expected)} results to compare.", flush=True)
    tried, failures, seed = {}, 0, options.seed
    while time.monotonic() < end:
        where = folder / f"seed-{seed}"
        before = sum(tried.values())
        wrong = cycle(seed, expected, archive, where, undisturbed.data, seconds / 5, tried)
        kills = sum(tried.values()) - before
        print(
            f"seed {seed}: {kills} interruptions, {'; '.join(wrong) or 'no difference'}", flush=True
        )
        failures += bool(wrong)
        if not wrong:
            shutil.rmtree(where)
        seed += 1
    for name, count in sorted(tried.items()):
        print(f"{count:5} {name}")
    print(
        f"{sum(tried.values())} interruptions in {seed - options.seed} cycles, {failures} failed."
    )
    if failures:
        sys.exit(f"error: see {folder}; bash scripts/soak.sh --seed N begins with cycle N")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
