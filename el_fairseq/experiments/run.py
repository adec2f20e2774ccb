"""All runs of an experiment, its losses times its seeds, one after the other or side by side.

A step that is done is not done again: an experiment that was stopped, at whatever point, goes on
when it is started again.
"""

import argparse
import os
import queue
import re
import shlex
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch

from ..analysis.__main__ import check_given
from ..common import processes
from ..common.cli import UserError, argument, run, split_at_dashes, whole_number
from ..common.locks import locked
from ..common.paths import ROOT, shown
from ..common.state import read_json
from ..corpora.languages import sacrebleu_tokenizer
from ..corpora.manifest import read as read_corpus
from . import results, training_log
from .config import names, read_experiment
from .evaluate import evaluate
from .options import check_decoding
from .table import print_table
from .train import Run, seed, train

SECONDS_BETWEEN_PROGRESS = 60
END_OF_LOG = 1 << 16


class Plan:
    """What is asked of ``scripts/reproduce.sh``: its runs, where they go, and on what."""

    def __init__(self, options, given):
        experiment = read_experiment(options.experiment)
        if options.last is not None:
            evaluation = experiment.evaluate.model_copy(update={"last": options.last})
            experiment = experiment.model_copy(update={"evaluate": evaluation})
        if not experiment.evaluate.last and not experiment.evaluate.best:
            raise UserError("--last is 0 and the experiment does not evaluate the best checkpoint")
        self.experiment, self.archive, self.cpu = experiment, options.archive, options.cpu
        # Absolute, because the corpus's command runs in the repository's folder.
        self.data = (options.data or experiment.folder).absolute()
        self.folder = (options.runs or ROOT / "runs" / experiment.name).absolute()
        self.slots = slots(options)
        self.jobs = options.jobs or len(self.slots) or experiment.runs.jobs
        losses = [experiment.loss(name) for name in options.losses or experiment.losses]
        # One seed after the other, so that what is compared is finished early.
        self.runs = [
            Run(
                experiment,
                loss,
                number,
                self.data,
                self.folder / f"{loss.slug}-seed{number}",
                gpus=options.gpus_per_run if self.slots else 0,
                threads=max(len(os.sched_getaffinity(0)) // self.jobs, 1),
                given=tuple(given),
            )
            for number in options.seeds or experiment.runs.seeds
            for loss in losses
        ]
        for one in self.runs[: len(losses)]:
            one.options()  # refuses what cannot be trained, of each loss
        check_decoding(experiment.evaluate.options)
        check_given(experiment.report.options)

    @property
    def has_corpus(self):
        return (self.data / "manifest.json").exists()

    def tests(self):
        """Names of the test sets, as far as they are known before the corpus is made."""
        if self.has_corpus:
            return results.tests_of(self.experiment, self.data)
        words = self.experiment.corpus.command
        named = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--test"]
        return self.experiment.corpus.tests or [
            one.partition("=")[0] for one in named if "=" in one
        ]

    def kinds(self):
        """How many epoch checkpoints each evaluation averages; 0 for the best one."""
        evaluation = self.experiment.evaluate
        return ([evaluation.last] if evaluation.last else []) + ([0] if evaluation.best else [])

    def prepare_command(self):
        command = [*self.experiment.corpus.command, "--out", str(self.data)]
        return command + (["--archive", str(self.archive.absolute())] if self.archive else [])

    def is_finished(self, a_run):
        return self.has_corpus and results.is_finished(self.experiment, a_run.folder, self.tests())

    def describe(self):
        """Yield the lines of ``--dry-run``: every command, in order."""
        yield shlex.join(["cd", str(ROOT)])
        yield shlex.join(self.prepare_command())
        where = "on the CPU"
        if self.slots:
            where = f"with CUDA_VISIBLE_DEVICES={' | '.join(map(','.join, self.slots))}"
        yield f"# {self.jobs} at a time, {where}"
        sets = self.tests()
        for a_run in self.runs:
            yield shlex.join(a_run.command())
            yield f"#   {shlex.join(a_run.fairseq_command(self.languages()))}"
            for last in self.kinds():
                words = ["bash", "scripts/evaluate.sh", shown(a_run.folder)]
                words += ["--last", str(last)] if last else ["--best"]
                options = self.experiment.evaluate.options
                for test in sets or [None]:
                    chosen = [*words, "--subset", test] if test else words
                    yield shlex.join(chosen + (["--", *options] if options else []))
        yield shlex.join(["bash", "scripts/report.sh", shown(self.folder)])
        table = ["bash", "scripts/table.sh", self.experiment.word, "--runs", shown(self.folder)]
        yield shlex.join(table)

    def languages(self):
        """Source and target, as far as they are known before the corpus is made."""
        if self.has_corpus:
            corpus = read_corpus(self.data)
            return corpus.source, corpus.target
        words = self.experiment.corpus.command
        if "--source" in words[:-1] and "--target" in words[:-1]:
            return words[words.index("--source") + 1], words[words.index("--target") + 1]
        pair = re.search(r"\b([a-z]{2,3})-([a-z]{2,3})\b", " ".join(words))
        return pair.groups() if pair else ("SOURCE", "TARGET")


def slots(options):
    """The GPUs of each of the runs that are trained side by side; none: on the CPU.

    Raises:
        UserError: there are fewer GPUs than are asked for.
    """
    if options.cpu:
        if options.gpus_per_run > 1 or options.gpus:
            raise UserError("--cpu trains in one process, without --gpus and --gpus-per-run")
        return []
    gpus, size = visible_gpus(options.gpus, options.dry_run), options.gpus_per_run
    if (gpus or size > 1) and len(gpus) < size:
        raise UserError(
            f"--gpus-per-run is {size}, expected at most {len(gpus)}, the GPUs to use here; a CPU "
            "trains in one process"
        )
    if options.task is not None:  # the cluster gave this task its GPUs
        return [gpus[:size]] if gpus else []
    return [gpus[i * size : i * size + size] for i in range(len(gpus) // size)]


def visible_gpus(number, dry_run=False):
    """Names of the GPUs to use, for CUDA_VISIBLE_DEVICES; all that are here for ``None``."""
    count = torch.cuda.device_count()
    known = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = known[:count] if known != [""] else [str(index) for index in range(count)]
    if number is not None and number > len(found):
        if not dry_run:
            raise UserError(f"--gpus is {number}, expected at most {len(found)}, the GPUs here")
        found = [str(index) for index in range(number)]
    return found[:number]


def say(text):
    print(text, flush=True)


def train_and_score(plan, a_run):
    """Train, translate and score one run."""
    train(a_run, say)
    for test in plan.tests():
        for last in plan.kinds():
            options = plan.experiment.evaluate.options
            out = evaluate(a_run.folder, last, test, plan.data, options, say=say)
            found = read_json(out / "scores.json", "evaluate it again")
            say(f"{a_run.name:12} {out.name}: {found['bleu']:.2f} BLEU, {found['chrf']:.2f} chrF")
    results.gather(plan.experiment, plan.folder)


def execute(plan):
    """Train, translate and score all runs, as many at a time as the plan says.

    Raises:
        UserError: some failed; all others were brought to their end.
        Stopped: the program is being stopped.
    """
    waiting, failures, stopped = queue.SimpleQueue(), [], []
    for a_run in plan.runs:
        waiting.put(a_run)

    def work(slot):
        visible = ",".join(plan.slots[slot % len(plan.slots)]) if plan.slots else None
        while not stopped:
            try:
                a_run = replace(waiting.get_nowait(), visible=visible)
            except queue.Empty:
                return
            try:
                train_and_score(plan, a_run)
            except (UserError, OSError) as error:
                failures.append(f"{a_run.name}: {error}")
            except processes.Stopped as error:
                stopped.append(error)

    # Those that still compute when this program is told to end must not hold it.
    threads = [threading.Thread(target=work, args=[slot], daemon=True) for slot in range(plan.jobs)]
    progress = Progress(plan)
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(SECONDS_BETWEEN_PROGRESS / len(threads))
        say(progress.line())
    if stopped:
        raise stopped[0]
    if failures:
        raise UserError(
            f"{len(failures)} of {len(plan.runs)} runs did not end well; run the same command "
            "again once that is mended: it goes on.\n" + "\n".join(failures)
        )


class Progress:
    """How many runs are done since this start, and how long the rest takes."""

    def __init__(self, plan):
        self.plan = plan
        self.start, self.before = time.monotonic(), self._trained()

    def _trained(self):
        """Trainings that are done, in runs, a part for those that are going on."""
        return sum(map(share_trained, self.plan.runs))

    def line(self):
        count, trained = len(self.plan.runs), self._trained()
        finished = sum(map(self.plan.is_finished, self.plan.runs))
        line = f"{self.plan.experiment.name}: {finished} of {count} runs done"
        if self.before < trained < count:
            seconds = time.monotonic() - self.start
            left = seconds * (count - trained) / (trained - self.before)
            line += f", about {duration(left)} left"
        return line


def share_trained(a_run):
    """Share of a training that is done, by its log; 0 where nothing is known."""
    if (a_run.folder / "training.json").exists():
        return 1
    try:
        with (a_run.folder / "train.log").open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - END_OF_LOG, 0))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return 0
    for kind, numbers in filter(None, map(training_log.parse, reversed(lines))):
        if kind == "train_inner":
            return training_log.share_done(numbers, a_run.checked)
    return 0


def duration(seconds):
    """A length of time in the unit a reader would choose."""
    for unit, length in (("days", 86400), ("hours", 3600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds / 60, 1):.0f} min"


def what_is_left(plan):
    """A line on what there is to do, and how much is done."""
    finished = [a_run for a_run in plan.runs if plan.is_finished(a_run)]
    advice = "delete that run's folder and run the experiment again"
    minutes = sum(
        read_json(path, advice).get("minutes", 0)
        for path in (a_run.folder / "training.json" for a_run in plan.runs)
        if path.exists()
    )
    left = [a_run.name for a_run in plan.runs if a_run not in finished]
    line = f"{plan.experiment.name}: {len(plan.runs)} runs in {plan.folder}, {len(finished)} done"
    line += f" ({duration(60 * minutes)} of training so far)" if minutes else ""
    return f"{line}, to do: {', '.join(left)}" if left else line


def reproduce(plan):
    """Make the corpus, the runs, their report and their table, as far as they are not there."""
    say(what_is_left(plan))
    plan.folder.mkdir(parents=True, exist_ok=True)
    busy = (
        f"{plan.folder} is being worked on by another start of this command: wait for it, or stop "
        "it, and run this again"
    )
    with locked(plan.folder / "lock", busy):
        if processes.call(plan.prepare_command(), cwd=ROOT):
            raise UserError("the data could not be prepared; see what it says above")
        corpus = read_corpus(plan.data)
        plan.tests()
        sacrebleu_tokenizer(corpus.target)
        execute(plan)
    make_report(plan.folder)
    print_table(plan.experiment, plan.folder, translations=10)
    say(f"\nReport, to open in a browser: {plan.folder / 'report.html'}")


def make_report(folder):
    """Write ``report.html`` of the runs in a folder."""
    if processes.call([sys.executable, "-m", "el_fairseq.report", str(folder)], cwd=ROOT):
        raise UserError("the report could not be made; see what it says above")


def task(plan, number):
    """Train, translate and score one run of the plan, as a task of a cluster's array."""
    if number >= len(plan.runs):
        raise UserError(f"--task is {number}, expected 0 to {len(plan.runs) - 1}")
    if not plan.has_corpus:
        command = shlex.join(plan.prepare_command())
        raise UserError(f"there is no corpus {plan.data}: prepare it before the tasks: {command}")
    visible = ",".join(plan.slots[0]) if plan.slots else None
    train_and_score(plan, replace(plan.runs[number], visible=visible))


def check_device(plan):
    """Raise :class:`UserError` where the experiment is made for a GPU and there is none."""
    if plan.slots or plan.cpu or plan.experiment.runs.cpu:
        return
    raise UserError(
        f"there is no GPU here, and the {len(plan.runs)} trainings of {plan.experiment.name} are "
        "made for one: use such a machine, or add --cpu to start all the same (a line will say "
        "how long it takes)"
    )


def comma_list(read, expected):
    """Reader of a list such as ``1,2,3``, without repetition, for argparse."""

    def read_list(text):
        values = [read(word.strip()) for word in text.split(",")]
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"{text} names one twice")
        return values

    return argument(read_list, f"a list, with commas, of {expected}")


def parser():
    """Command line, without what follows ``--``."""
    made = argparse.ArgumentParser(
        prog="bash scripts/reproduce.sh",
        usage="%(prog)s EXPERIMENT [options] [-- fairseq-train options]",
        description="Runs an experiment: prepares the data, trains a model with each loss and "
        "seed, translates and scores the test sets with every model, writes a report of what each "
        "loss did to its model (report.html), and prints the table. Stopped at any point, the same "
        "command goes on.",
        allow_abbrev=False,
    )
    made.add_argument(
        "experiment",
        help=f"{', '.join(names())}, or a .toml file (scripts/README.md says what stands in it)",
    )
    seeds = comma_list(seed, "whole numbers from 0 to 2^32 - 1")
    made.add_argument("--seeds", type=seeds, metavar="LIST", help="(the experiment's: 1,2,3,4,5)")
    losses = comma_list(str, "losses")
    made.add_argument("--losses", type=losses, metavar="LIST", help="some of the experiment's")
    made.add_argument(
        "--last", type=whole_number(0), metavar="N", help="how many epoch checkpoints to average"
    )
    made.add_argument(
        "--archive", type=Path, metavar="FILE", help="the data's archive, instead of downloading it"
    )
    made.add_argument("--data", type=Path, metavar="DIR", help="the corpus (data/EXPERIMENT)")
    made.add_argument(
        "--runs", type=Path, metavar="DIR", help="for runs and results.json (runs/EXPERIMENT)"
    )
    made.add_argument("--dry-run", action="store_true", help="print every command, do nothing")
    made.add_argument(
        "--gpus", type=whole_number(1), metavar="N", help="how many GPUs to use (all)"
    )
    made.add_argument(
        "--gpus-per-run",
        type=whole_number(1),
        default=1,
        metavar="K",
        help="GPUs of one training, which then divides the experiment's --update-freq (1, and as "
        "many trainings side by side as there are GPUs)",
    )
    made.add_argument(
        "--jobs",
        type=whole_number(1),
        metavar="N",
        help="trainings side by side (one for each K GPUs; on a CPU the experiment's, which share "
        "its cores)",
    )
    made.add_argument("--cpu", action="store_true", help="train on the CPU what is made for a GPU")
    made.add_argument(
        "--task",
        type=whole_number(0),
        metavar="N",
        help="train and score run N alone, counted from 0: a task of a cluster's array",
    )
    return made


def main():
    ours, given = split_at_dashes(sys.argv[1:])
    options = parser().parse_args(ours)
    plan = Plan(options, given)
    if options.dry_run:
        print("\n".join(plan.describe()))
        return
    check_device(plan)
    if options.task is not None:
        processes.supervise(lambda: task(plan, options.task))
    else:
        processes.supervise(lambda: reproduce(plan))


if __name__ == "__main__":
    run(main)
