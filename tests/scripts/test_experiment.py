"""Experiments by the repository's scripts and the real fairseq programs, in small."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, environment, run, script, succeed
from sizes import transformer, words_of
from tiny import write_text

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import results
from el_fairseq.experiments.config import read_experiment
from el_fairseq.experiments.run import Plan, execute, parser, reproduce

# Two test sets, scored together too, of a language that a model of a few thousand weights learns.
EXPERIMENT = """
title = "Mine"
[corpus]
command = '''bash data-prep/parallel-text.sh --source de --target en --train {text}/train
--valid {text}/valid --test {text}/test --test more={text}/more --pool-tests --pieces 90'''
[train]
options = '''
--arch transformer --share-all-embeddings {sizes} --dropout 0.1 --label-smoothing 0.1
--optimizer adam --lr 0.02 --max-tokens 500 --max-epoch 4 --keep-last-epochs 2 --num-workers 0
--required-batch-size-multiple 1 --log-interval 1
--max-source-positions 2000 --max-target-positions 2000
'''
[evaluate]
last = 2
options = "--beam 2 --max-len-a 0 --max-len-b 12"
[runs]
jobs = 2
cpu = true
[report]
options = "--noise-sentences 5 --beam 1 --bootstrap 10"
"""


class Started:
    """A script that is running, and everything that it has started."""

    def __init__(self, name, *arguments):
        self.process = psutil.Popen(
            ["bash", str(ROOT / name), *map(str, arguments)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, words):
        """Read on until the script prints ``words``."""
        said = ""
        for line in self.process.stdout:
            said += line
            if words in line:
                return
        raise AssertionError(f"{words!r} was not said:\n{said}")

    def end(self, number, everything=False):
        """Send a signal to the script, or to all that it has started as well; returns its status
        when all of them are gone."""
        there = [self.process, *self.process.children(recursive=True)]
        for process in there if everything else there[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        self.process.stdout.read()
        assert psutil.wait_procs(there, timeout=60)[1] == []
        self.process.stdout.close()
        return self.process.wait()


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my own")
    write_text(folder / "text")
    for side, word in (("de", "haus"), ("en", "house")):
        lines = (folder / "text" / f"valid.{side}").read_text().split("\n")
        lines[0] = " ".join([word] * 300)  # more than fairseq's defaults take
        (folder / "text" / f"more.{side}").write_text("\n".join(lines))
    text = EXPERIMENT.format(
        text=shlex.quote(f"{folder}/text"), sizes=shlex.join(words_of(transformer(16)))
    )
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


@pytest.fixture(scope="session")
def call(experiment):
    folder = experiment.parent
    return [experiment, "--seeds", "1", "--data", folder / "corpus", "--runs", folder / "runs"]


@pytest.fixture(scope="session")
def first(call):
    """What the whole experiment said, from text to report."""
    return succeed(script("scripts/reproduce.sh", *call)).stdout


@pytest.fixture(scope="session")
def runs(first, experiment):
    return experiment.parent / "runs"


def test_an_experiment_goes_from_its_file_to_table_translations_and_report(first, runs):
    assert f"mine: 2 runs in {runs}, 0 done, to do: ce-seed1, el-seed1" in first
    assert "; 1 of 2 runs trained" in first or "; 0 of 2 runs trained" in first
    assert "reference  " in first
    assert "EL, minus CE (last 2, test set all)" in first
    assert "With one seed nothing is known of other seeds" in first
    assert f"Report, to open in a browser: {runs / 'report.html'}" in first
    for record in results.read(runs)["runs"]:
        counts = {test: one["averaged2"]["sentences"] for test, one in record["scores"].items()}
        assert counts == {"all": 73, "test": 43, "more": 30}, "a multiple of 8 would hide a loss"
        assert record["scores"]["test"]["averaged2"]["tokenized_bleu"] is not None
    texts = {path.read_bytes() for path in runs.glob("*/evaluation/all-*/hypotheses.en")}
    assert len(texts) == 2
    assert list(json.loads((runs / "analysis" / "analysis.json").read_text())["models"]) == [
        *("CE", "EL")
    ]


def test_what_is_done_is_not_done_again(first, call, runs):
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/*.json")}
    again = succeed(script("scripts/reproduce.sh", *call)).stdout
    assert "2 runs in" in again and "2 done" in again and "to do" not in again
    assert again[again.index("Mine") :] == first[first.index("Mine") :]
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/*.json")} == before


def test_the_scores_are_what_the_sacrebleu_program_says(runs):
    folder = runs / "ce-seed1" / "evaluation" / "test-averaged2"
    command = ["sacrebleu", folder / "references.en", "-i", folder / "hypotheses.en", "-b", "-w", 2]
    said = json.loads(succeed(run([*command, "-m", "bleu", "chrf", "ter"])).stdout)
    scores = json.loads((folder / "scores.json").read_text())
    assert said == [scores[name] for name in ("bleu", "chrf", "ter")]


def test_stopped_at_every_stage_it_ends_with_the_same_hypotheses(runs, call, experiment, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(runs / "el-seed1", folder / "el-seed1")  # the other one is about to begin
    words = ["scripts/reproduce.sh", *call[:-1], folder, "--jobs", "1"]

    started = Started(*words)
    started.wait_for("to do: ce-seed1")
    with pytest.raises(UserError, match="is being run by another process"):
        reproduce(Plan(parser().parse_args([str(word) for word in words[1:]]), []))
    started.wait_for("epoch   2")
    assert started.end(signal.SIGKILL, everything=True) == -signal.SIGKILL

    words += ["--task", "0"]
    started = Started(*words)
    started.wait_for("translating")
    assert started.end(signal.SIGTERM) == -signal.SIGTERM
    succeed(script(*words))

    made, expected = (
        [{**one, "minutes": 0, "command": 0} for one in gathered["runs"]]
        for gathered in (results.gather(read_experiment(experiment), folder), results.read(runs))
    )
    assert made == expected
    path = Path("ce-seed1", "evaluation", "all-averaged2", "hypotheses.en")
    assert (folder / path).read_bytes() == (runs / path).read_bytes()


def test_a_moved_experiment_is_known_again(runs, experiment, tmp_path, capsys):
    moved = tmp_path / "elsewhere"
    shutil.copytree(experiment.parent, moved, symlinks=True)
    words = [moved / "mine.toml", "--seeds", "1", "--cpu"]
    words += ["--data", moved / "corpus", "--runs", moved / "runs", "--task", 1]
    plan = Plan(parser().parse_args(list(map(str, words))), [])
    execute(plan)
    assert "translating" not in capsys.readouterr().out


def test_the_table_can_be_made_from_kept_results_alone_from_any_folder(runs, experiment, tmp_path):
    kept = tmp_path / "kept"
    # What lies in the user's folder is not taken for a module of Python's.
    (tmp_path / "tokenize.py").write_text("raise SystemExit('imported')")
    words = ["bash", ROOT / "scripts/table.sh", experiment, "--runs"]
    succeed(run([*words, runs, "--export", kept], cwd=tmp_path))
    made = (kept / "table.md").read_bytes()
    (kept / "table.md").unlink()
    assert succeed(run([*words, kept], cwd=tmp_path)).stdout.count("minus CE") == 3
    assert (kept / "table.md").read_bytes() == made == (runs / "table.md").read_bytes()
    assert sum(path.stat().st_size for path in kept.rglob("*") if path.is_file()) < 100_000


def test_the_demo_is_one_seed_of_an_experiment():
    lines = succeed(script("scripts/demo.sh", "--dry-run", "--cpu")).stdout.splitlines()
    assert sum("scripts/train.sh home-assistant-fr-en" in line for line in lines) == 2


def test_an_interrupt_while_torch_is_imported_says_nothing(tmp_path):
    words = ["bash", ROOT / "data-prep/iwslt14-de-en.sh", "--archive", tmp_path / "none"]
    with subprocess.Popen(
        ["env", "--default-signal=INT", *map(str, words)],  # the suite may ignore it
        env=environment(),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        while "libtorch" not in Path(f"/proc/{started.pid}/maps").read_text():
            time.sleep(0.01)
        os.killpg(started.pid, signal.SIGINT)
        assert started.stderr.read() == ""
    assert started.returncode == -signal.SIGINT
