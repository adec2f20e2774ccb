"""Runs an experiment: its losses times its seeds, one after the other or side by side.

Prepares the data, trains a model with each loss and seed, translates and scores the test sets with
every model, writes a report of what each loss did to its model (report.html), and prints the table.
Finished steps are skipped: stopped at any point, the same command goes on.
"""

import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..analysis.__main__ import parser as parser_of_analysis
from ..common import processes
from ..common.cli import UserError, parse, run, whole_number
from ..common.files import locked
from ..common.paths import ROOT, shown, usable
from ..corpora.languages import sacrebleu_tokenizer
from ..corpora.manifest import read as read_corpus
from . import evaluate
from .config import parser_of, read_experiment, slug
from .options import check_decoding
from .results import gather, is_finished, tests_of
from .table import print_table
from .train import GPUS_PER_RUN, SEED, Run, gpus_of_runs, train
from .training_log import Progress


class Plan:
    """What is asked of ``scripts/reproduce.sh``: its runs, where they go, and on what."""

    def __init__(self, options, given):
        self.experiment = experiment = read_experiment(options.experiment, options.last)
        # Absolute, because the corpus's command runs in the repository's folder.
        self.data = usable(options.data or experiment.data)
        self.folder = usable(options.runs or experiment.folder)
        self.prepare_command = [*experiment.corpus.command, "--out", str(self.data)]
        if options.archive:
            self.prepare_command += ["--archive", str(options.archive.absolute())]
        gpus = gpus_of_runs(options.gpus_per_run, options.cpu, options.gpus, options.dry_run)
        jobs = options.jobs or (len(gpus) if gpus[0] else experiment.runs.jobs)
        self.slots = [gpus[number % len(gpus)] for number in range(jobs)]  # a training in each
        losses = dict.fromkeys(map(experiment.loss, options.losses or experiment.losses))
        threads = max(len(os.sched_getaffinity(0)) // jobs, 1)
        self.runs = []
        # One seed after the other, so that what is compared is finished early.
        for seed in dict.fromkeys(options.seeds or experiment.runs.seeds):
            for loss in losses:
                folder = self.folder / f"{slug(loss)}-seed{seed}"
                more = self.slots[0], threads, tuple(given)
                self.runs.append(Run(experiment, loss, seed, self.data, folder, *more))
        for one in self.runs[: len(losses)]:
            one.options()  # refuses what cannot be trained, of each loss
        if options.task is not None:
            if options.task >= len(self.runs):
                raise UserError(f"--task is {options.task}, expected 0 to {len(self.runs) - 1}")
            self.runs = [self.runs[options.task]]
        check_decoding(experiment.evaluate.options)
        parser_of_analysis(of_report=True).parse_args(experiment.report.options)

    def describe(self):
        """Yield the lines of ``--dry-run``: every command, in order."""
        experiment, languages = self.experiment, ("SOURCE", "TARGET")
        if (self.data / "manifest.json").exists():
            corpus = read_corpus(self.data)
            languages = corpus.source, corpus.target
        yield shlex.join(["cd", str(ROOT)])
        yield shlex.join(self.prepare_command)
        where = "on the CPU"
        if self.slots[0]:
            where = f"with CUDA_VISIBLE_DEVICES={' | '.join(map(','.join, self.slots))}"
        yield f"# {len(self.slots)} at a time, {where}"
        for one in self.runs:
            yield shlex.join(one.command())
            yield f"#   {shlex.join(one.fairseq_command(languages))}"
            for last in experiment.models.values():
                for test in experiment.corpus.tests or [None]:  # without one, all of the corpus
                    options = experiment.evaluate.options
                    yield shlex.join(evaluate.command(one.folder, last, test, options))
        yield shlex.join(["bash", "scripts/report.sh", shown(self.folder)])
        table = ["bash", "scripts/table.sh", experiment.argument, "--runs", shown(self.folder)]
        yield shlex.join(table)


def train_and_score(one, progress):
    """Train, translate and score one run."""
    train(one, progress)
    for test in tests_of(one.experiment, one.data):
        for last in one.experiment.models.values():
            options = one.experiment.evaluate.options
            out = evaluate.evaluate(one.folder, last, test, one.data, options, gpus=one.gpus)
            scores = evaluate.scores_in(out)
            print(f"{one.name:12} {out.name}: {scores['bleu']:.2f} BLEU, {scores['chrf']:.2f} chrF")


def execute(plan):
    """Train, translate and score all runs, as many at a time as the plan says. Where some fail,
    the others are brought to their end first."""
    left, progress, failures = iter(plan.runs), Progress(plan.runs), []

    def work(gpus):
        for one in left:
            try:
                train_and_score(replace(one, gpus=gpus), progress)
            except (UserError, OSError) as error:
                failures.append(f"{one.name}: {error}")
            except SystemExit:  # SIGUSR1: no other run is begun
                list(left)
                raise

    with ThreadPoolExecutor(len(plan.slots)) as pool:
        list(pool.map(work, plan.slots))
    if failures:
        raise UserError(
            f"{len(failures)} of {len(plan.runs)} runs failed; fix the cause and run the same "
            "command again: it goes on.\n" + "\n".join(failures)
        )


def reproduce(plan):
    """Make the corpus and the runs, unless they exist, then their report and their table."""
    experiment, folder = plan.experiment, plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", f"the experiment in {folder} is being run"):
        if processes.call(plan.prepare_command, cwd=ROOT):
            raise UserError("the data could not be prepared; see the error above")
        tests, count = tests_of(experiment, plan.data), len(plan.runs)
        sacrebleu_tokenizer(read_corpus(plan.data).target)
        left = [one.name for one in plan.runs if not is_finished(experiment, one.folder, tests)]
        print(
            f"{experiment.name}: {count} runs in {folder}, {count - len(left)} done"
            + (f", to do: {', '.join(left)}" if left else "")
        )
        execute(plan)
        results = gather(experiment, folder)
    make_report(folder)
    print_table(results, translations=10)
    print(f"\nReport, to open in a browser: {folder / 'report.html'}")


def make_report(folder):
    """Write ``report.html`` of the runs in a folder."""
    if processes.call([sys.executable, "-m", "el_fairseq.report", str(folder)], cwd=ROOT):
        raise UserError("the report could not be made; see the error above")


def comma_list(read):
    """Reader of a list such as ``1,2,3`` for argparse."""
    return lambda text: [read(word.strip()) for word in text.split(",")]


def parser():
    """Command line, without what follows ``--``."""
    made = parser_of("reproduce", __doc__, "[options] [-- fairseq-train options]")
    add, number = made.add_argument, whole_number(1)
    add("--seeds", type=comma_list(SEED), metavar="LIST", help="(the experiment's: 1,2,3,4,5)")
    add("--losses", type=comma_list(str), metavar="LIST", help="some of the experiment's")
    add("--last", type=whole_number(0), metavar="N", help="epoch checkpoints to average")
    add("--archive", type=Path, metavar="FILE", help="the data's archive (downloaded)")
    add("--data", type=Path, metavar="DIR", help="the corpus (data/EXPERIMENT)")
    add("--runs", type=Path, metavar="DIR", help="for runs and results (runs/EXPERIMENT)")
    add("--dry-run", action="store_true", help="print every command, do nothing")
    add("--gpus", type=number, metavar="N", help="how many GPUs to use (all)")
    add("--gpus-per-run", type=number, default=1, metavar="K", help=GPUS_PER_RUN)
    add("--jobs", type=number, metavar="N", help="trainings side by side (one for each K GPUs)")
    on_cpu = "train on the CPU, even if the experiment is meant for a GPU"
    add("--cpu", action="store_true", help=on_cpu)
    of_array = "train and score run N alone, counted from 0: a task of a cluster's array"
    add("--task", type=whole_number(0), metavar="N", help=of_array)
    return made


def main():
    options, given = parse(parser())
    plan = Plan(options, given)
    if options.dry_run:
        print("\n".join(plan.describe()))
        return
    if not (plan.slots[0] or options.cpu or plan.experiment.runs.cpu):
        raise UserError(
            f"there is no GPU here, and the {len(plan.runs)} trainings of {plan.experiment.name} "
            "are made for one: use such a machine, or add --cpu to start all the same (a line will "
            "say how long it takes)"
        )
    if options.task is None:
        reproduce(plan)
    else:  # the experiment's other runs may be other tasks
        execute(plan)


if __name__ == "__main__":
    run(lambda: processes.supervise(main))
