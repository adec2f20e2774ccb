import json
import signal
import sys

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.runs import training
from el_fairseq.runs.launch import Launch
from el_fairseq.runs.training import claim, usable

ASKED = {
    "format": 2,
    "experiment": "small",
    "criterion": "el",
    "log_end": 0.5,
    "seed": 1,
    "data": "data/small",
    "corpus": "sha256:12",
    "device": "cpu",
    "options": ["--lr", "0.01", "--adam-betas", "(0.9, 0.98)", "--fp16"],
    "processes": 1,
}


def begun(out):
    """A run that has a checkpoint to lose."""
    claim(out, ASKED).close()
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "checkpoint1.pt").touch()


def test_another_run_in_the_same_folder_is_refused_by_what_differs_alone(tmp_path):
    begun(tmp_path)
    options = ["--lr", "0.02", "--adam-betas", "(0.9, 0.98)", "--fp16", "--clip-norm", "1"]
    with pytest.raises(UserError) as refused:
        claim(tmp_path, {**ASKED, "options": options})
    said = str(refused.value)
    assert "with options '--lr 0.01', now it is '--lr 0.02 --clip-norm 1'; delete " in said
    assert "adam" not in said
    with pytest.raises(UserError, match=r"trained with log_end 0.5, now it is 0.75"):
        claim(tmp_path, {**ASKED, "log_end": 0.75})


def test_options_that_led_to_no_checkpoint_do_not_bind(tmp_path):
    claim(tmp_path, {**ASKED, "options": ["--lrr", "0.01"]}).close()
    (tmp_path / "train.log").write_text("unrecognized arguments: --lrr\n")
    claim(tmp_path, ASKED).close()
    assert json.loads((tmp_path / "run.json").read_text()) == ASKED
    assert not (tmp_path / "train.log").exists()


def test_a_run_of_another_version_is_refused_in_a_line(tmp_path):
    begun(tmp_path)
    earlier = {name: value for name, value in ASKED.items() if name not in ("format", "corpus")}
    (tmp_path / "run.json").write_text(json.dumps(earlier))
    with pytest.raises(UserError, match=r"run.json is of format 1, expected 2: .*; go on with"):
        claim(tmp_path, ASKED)


def test_a_run_goes_on_where_its_corpus_was_moved_to(tmp_path):
    begun(tmp_path)
    claim(tmp_path, {**ASKED, "data": "/elsewhere"}).close()


@pytest.mark.parametrize(("name", "value"), [("corpus", "sha256:34"), ("device", "cuda")])
def test_a_run_does_not_go_on_with_another_corpus_or_kind_of_device(tmp_path, name, value):
    begun(tmp_path)
    with pytest.raises(UserError, match=f"trained with {name} '{ASKED[name]}', now it is"):
        claim(tmp_path, {**ASKED, name: value})


def test_a_corpus_is_known_by_what_it_holds(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("dict.de.txt", "train.de-en.de.bin", "valid.de-en.de.idx", "preprocess.log"):
            (tmp_path / folder / name).write_text(name)
    (tmp_path / "two" / "preprocess.log").write_text("another time")
    one, two = (training.identity_of_corpus(tmp_path / folder) for folder in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "train.de-en.de.bin").write_text("other")
    assert training.identity_of_corpus(tmp_path / "two") != one


@pytest.mark.parametrize("content", ["", "{", "[]", '{"criterion": "el"}'])
def test_a_damaged_record_of_what_was_asked_is_named(tmp_path, content):
    begun(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=rf"{tmp_path}.* delete {tmp_path} to train anew"):
        claim(tmp_path, ASKED)


def test_a_folder_that_fairseq_would_take_for_two_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds ':', where fairseq takes one folder to end"):
        usable(tmp_path / "12:30")


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not UTF-8"):
        usable(tmp_path / "caf\udce9")


def test_the_end_of_a_run_is_told_by_its_checkpoint(tmp_path, monkeypatch):
    class Latest:
        updates, seconds = 75, 5400.0
        validation = {"nll_loss": 3.5, "accuracy": 61.0}  # noqa: RUF012

    monkeypatch.setattr(training, "newest", lambda folder: Latest)
    assert training.finished(tmp_path) == {
        "updates": 75,
        "minutes": 90.0,
        "valid_nll": 3.5,
        "valid_accuracy": 61.0,
    }


# A training that has Slurm warn its keeper of the time limit before it is ready for it.
TRAINING = """
import os, signal, sys, time
assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
os.kill(os.getppid(), signal.SIGUSR1)
time.sleep(0.1)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
print("update 7", flush=True)
time.sleep(60)
"""


def test_slurms_signal_ends_a_training_by_a_checkpoint(tmp_path, monkeypatch):
    start = training.processes.start
    monkeypatch.setattr(
        training.processes,
        "start",
        lambda command, **options: start([sys.executable, "-c", TRAINING], **options),
    )
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with (tmp_path / "lock").open("w") as lock, pytest.raises(SystemExit) as ended:
        training.train(tmp_path, {"options": []}, "bin", lock, Launch())
    for number, handler in kept.items():
        signal.signal(number, handler)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert ended.value.code == 75
    assert "update 7" in (tmp_path / "train.log").read_text()
    assert not (tmp_path / "training.json").exists()


def test_progress_is_shown_of_criterions_that_know_no_accuracy(capsys):
    progress = training.Progress("ce-seed1", ["--max-update", "many"])
    progress.see('2026 | INFO | valid | {"epoch": 1, "valid_loss": "6.1", "valid_nll_loss": "4.5"}')
    assert capsys.readouterr().out == "ce-seed1     epoch   1  validation: nll 4.500 bits\n"
