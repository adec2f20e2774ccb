import json
import signal
import subprocess
import sys
import types

import pytest
from conftest import ROOT, run
from made import experiment_of
from tiny import SMALL_MODEL

from el_fairseq.common import processes
from el_fairseq.common.cli import UserError
from el_fairseq.experiments.train import Run, claim, identity_of_corpus
from el_fairseq.experiments.train import train as train_with
from el_fairseq.experiments.training_log import Progress
from el_fairseq.safe_load import load

TRAINING = [
    *("--optimizer", "adam", "--lr", "0.02", "--label-smoothing", "0.1", "--max-tokens", "60"),
    *("--num-workers", "0", "--required-batch-size-multiple", "1", "--log-interval", "1"),
]
EXPERIMENT = """
title = "Small"
corpus.command = "none"
train.options = '''{options}'''
evaluate.last = 1
"""


@pytest.fixture
def small_run(small, tmp_path):
    """A run of a tiny experiment, of some updates."""
    options = [*SMALL_MODEL, *TRAINING]
    experiment = experiment_of(tmp_path, EXPERIMENT.format(options=" ".join(options)))

    def make(loss="EL", seed=1, updates=3, data=small, **changes):
        given = ("--max-update", str(updates), *changes.pop("given", ()))
        folder = tmp_path / "runs" / "run"
        return Run(
            experiment, experiment.loss(loss), seed, data, folder, given=given, threads=1, **changes
        )

    return make


def train(a_run):
    train_with(a_run, Progress([a_run]))


def begun(a_run):
    """Make a run's folder one that has a checkpoint to lose."""
    a_run.folder.mkdir(parents=True)
    (a_run.folder / "run.json").write_text(json.dumps(a_run.record()))
    (a_run.folder / "checkpoints").mkdir()
    (a_run.folder / "checkpoints" / "checkpoint1.pt").touch()


def is_held(a_run):
    return run(["flock", "-n", a_run.folder / "lock", "true"]).returncode == 1


def test_a_run_is_held_while_it_is_trained_which_is_once_and_says_how_it_ended(small_run, capsys):
    a_run = small_run(updates=40)
    progress, lines = Progress([a_run]), []

    def see(_, line):
        if not lines:
            assert is_held(a_run)
            with pytest.raises(UserError, match="is being trained by another process"):
                train(a_run)
        lines.append(line)
        progress.see(a_run, line)

    train_with(a_run, types.SimpleNamespace(see=see))
    assert not is_held(a_run)
    ended = json.loads((a_run.folder / "training.json").read_text())
    assert ended["updates"] == 40 and 0 < ended["valid_accuracy"] <= 100
    assert "validation: nll" in capsys.readouterr().out
    assert json.loads((a_run.folder / "run.json").read_text()) == a_run.record()
    log = (a_run.folder / "train.log").read_text()
    assert "--source-lang de --target-lang en" in log
    train(a_run)
    assert (a_run.folder / "train.log").read_text() == log


def test_a_training_whose_test_set_the_model_could_not_translate_ends_in_its_last_line(small_run):
    a_run = small_run(given=("--max-source-positions", "4"))
    said = (
        r"fairseq-train failed: error: .*test are longer than .*--max-source-positions.*train\.log"
    )
    with pytest.raises(UserError, match=said):
        train(a_run)
    assert not any((a_run.folder / "checkpoints").iterdir())
    assert not (a_run.folder / "training.json").exists()


def test_a_run_whose_last_checkpoint_is_damaged_is_not_begun_anew(small_run):
    a_run = small_run()
    begun(a_run)
    (a_run.folder / "checkpoints" / "checkpoint_last.pt").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"checkpoint_last\.pt is no whole checkpoint"):
        train(a_run)


def test_sigusr1_before_the_first_checkpoint_stops_after_one_and_the_run_goes_on(
    small_run, tmp_path
):
    a_run = small_run(updates=2000)
    words = a_run.command()[2:]
    words[0], words[4], words[6] = str(tmp_path / "small.toml"), str(a_run.data), str(a_run.folder)
    command = [sys.executable, "-m", "el_fairseq.experiments.train", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        for line in started.stdout:
            if "update" in line:
                started.send_signal(signal.SIGUSR1)
                break
        said = started.stdout.read()
    assert started.returncode == processes.STOPPED
    assert "stopped; the same command goes on" in said
    last = a_run.folder / "checkpoints" / "checkpoint_last.pt"
    updates = load(last)["optimizer_history"][-1]["num_updates"]
    assert 0 < updates < 2000 and not (a_run.folder / "training.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 2}, "trained with seed 1, not 2; delete "),
        ({"loss": "CE"}, "trained with loss 'EL', not 'CE'"),
        ({"updates": 4}, "trained with options '--max-update 3', not '--max-update 4'; del"),
        ({"gpus": ("0",)}, "trained with device 'cpu', not 'cuda'"),
    ],
)
def test_another_run_in_the_same_folder_is_refused_by_what_differs_alone(small_run, change, said):
    begun(small_run())
    with pytest.raises(UserError) as refused:
        train(small_run(**change))
    assert said in str(refused.value)


def test_a_run_does_not_go_on_with_another_corpus_and_does_with_the_same_elsewhere(
    small_run, small, tmp_path
):
    begun(small_run())
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-r", small, moved], check=True)
    claim(small_run().folder, small_run(data=moved).record())
    dictionary = moved / "bin" / "dict.de.txt"
    dictionary.write_text(dictionary.read_text() + "more 1\n")
    with pytest.raises(UserError, match="trained with corpus 'sha256:"):
        train(small_run(data=moved))


def test_options_that_led_to_no_checkpoint_do_not_bind(small_run):
    begun(small_run(seed=2))
    (small_run().folder / "checkpoints" / "checkpoint1.pt").unlink()
    claim(small_run().folder, small_run().record())
    assert json.loads((small_run().folder / "run.json").read_text())["seed"] == 1


def test_a_corpus_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no binary data in .*: prepare the corpus .*data-bin\.sh"):
        identity_of_corpus(tmp_path)


def test_a_run_sees_its_gpus_alone_and_keeps_its_memory_on_a_cpu(small_run):
    assert small_run(gpus=("4", "5")).environment()["CUDA_VISIBLE_DEVICES"] == "4,5"
    on_cpu = small_run().environment()
    assert on_cpu["CUDA_VISIBLE_DEVICES"] == "" and "MALLOC_TRIM_THRESHOLD_" in on_cpu
