import json

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.runs.record import record_of

PREFIX = "2026-11-23 21:00:00 | INFO | "


def finished(folder, training, log=""):
    """A finished run with one evaluation, ``test-best``."""
    scores = folder / "evaluation" / "test-best"
    scores.mkdir(parents=True)
    (folder / "run.json").write_text('{"criterion": "el", "log_end": 0.5, "seed": 1}')
    (folder / "training.json").write_text(json.dumps(training))
    (scores / "scores.json").write_text('{"bleu": 30.0}')
    (folder / "train.log").write_text(log)
    return folder


def line(kind, updates, **numbers):
    numbers = {"num_updates": updates, **numbers}
    record = {f"{kind}_{name}": str(value) for name, value in numbers.items()}
    return f"{PREFIX}{kind} | {json.dumps({'epoch': updates // 10, **record})}\n"


def test_the_validation_is_the_one_that_the_training_ended_with(tmp_path):
    training = {"updates": 20, "minutes": 1.5, "valid_nll": 3.5, "valid_accuracy": 60.0}
    record = record_of(finished(tmp_path, training), "test-best")
    assert (record["valid_nll"], record["valid_accuracy"]) == (3.5, 60.0)
    assert (record["bleu"], record["loss"]) == (30.0, "EL, log end 0.5")


def test_a_run_of_an_earlier_version_takes_it_from_its_log(tmp_path):
    log = line("valid", 10, nll_loss=4.5, accuracy=50) + line("train", 10, loss=6)
    log += line("train", 20, loss=5)  # validated every second epoch
    run = finished(tmp_path, {"updates": 20, "minutes": 1.5}, log)
    assert record_of(run, "test-best")["valid_nll"] == 4.5


def test_a_log_that_is_cut_off_does_not_give_the_epoch_before(tmp_path):
    log = line("valid", 10, nll_loss=4.5, accuracy=50) + line("train", 10, loss=6)
    log += line("valid", 20, nll_loss=4.0, accuracy=55)[:-20]
    run = finished(tmp_path, {"updates": 20, "minutes": 1.5}, log)
    with pytest.raises(UserError, match=r"train\.log is cut off: it ends at update 10"):
        record_of(run, "test-best")


def test_a_log_without_validation_is_named(tmp_path):
    run = finished(tmp_path, {"updates": 20, "minutes": 1.5}, line("train", 20, loss=5))
    with pytest.raises(UserError, match=r"train\.log holds no validation"):
        record_of(run, "test-best")


@pytest.mark.parametrize("name", ["run.json", "training.json", "evaluation/test-best/scores.json"])
def test_a_damaged_file_of_a_run_is_named_with_what_to_do(tmp_path, name):
    finished(tmp_path, {"updates": 20, "minutes": 1.5})
    (tmp_path / name).write_text('{"bleu": ')
    with pytest.raises(UserError, match=rf"{name} is damaged .*: (train|delete) "):
        record_of(tmp_path, "test-best")
