import sys

import pytest
from conftest import DEVICE, run, succeed
from soak import same
from tiny import SMALL_MODEL

from el_fairseq.safe_load import load

TRAINING = [
    *("--criterion", "encouraging_loss", "--label-smoothing", "0.1", "--report-accuracy"),
    *("--optimizer", "adam", "--lr", "0.02", "--dropout", "0.3", "--clip-norm", "1.0"),
    *("--lr-scheduler", "polynomial_decay", "--warmup-updates", "3", "--total-num-update", "40"),
    *("--max-tokens", "60", "--update-freq", "2", "--num-workers", "0"),
    *(["--cpu"] if DEVICE == "cpu" else ["--distributed-world-size", "1"]),
    *("--required-batch-size-multiple", "1", "--log-format", "json", "--log-interval", "1"),
]
# What a checkpoint holds beside tensors.
OTHERS = ["train_iterator", "val_loss", "best", "last_validation", "early_stopping"]
OTHERS += ["num_updates", "criterion_name", "optimizer_name", "lr_scheduler_state"]
# Its loss scale doubles every third update.
HALF = ["--fp16", "--fp16-init-scale", "1", "--fp16-scale-window", "3"]
HALF += ["--fp16-no-flatten-grads"] if DEVICE == "cpu" else []  # flat ones want a GPU's memory


@pytest.fixture(scope="module", params=[[], HALF], ids=["float32", "float16"])
def trained(request, small, tmp_path_factory):
    """Folders of a training of 10 updates, and of one stopped after 4 and 7; what was said."""
    folder = tmp_path_factory.mktemp("trained")
    worker = [sys.executable, "-m", "el_fairseq.experiments.worker", small / "bin", *SMALL_MODEL]
    worker += [*TRAINING, *request.param, "--save-interval-updates", "1"]
    said = ""
    for name, end in (("undisturbed", 10), *(("stopped", end) for end in (4, 7, 10, 10))):
        result = succeed(run([*worker, "--save-dir", folder / name, "--max-update", end]))
        said += result.stdout + result.stderr
    return folder / "undisturbed", folder / "stopped", said


def parts(path):
    """What a checkpoint holds of a training, times aside."""
    state = load(path)
    others = {**state["extra_state"], **state["optimizer_history"][-1]}
    tensors = {part: state[part] for part in ("model", "last_optimizer_state")}
    return {**tensors, **{key: others[key] for key in OTHERS}}


def test_a_resumed_training_is_bit_for_bit_the_undisturbed_one(trained):
    undisturbed, stopped, said = trained
    ends_of_epochs, found = list(undisturbed.glob("checkpoint[1-9].pt")), []
    assert len(ends_of_epochs) >= 2 and said.count("Loaded checkpoint") == 3
    for path in sorted(undisturbed.glob("*.pt")):
        one, two = parts(path), parts(stopped / path.name)
        found += [f"{path.name}: {key}" for key in one if not same(one[key], two[key])]
    assert "slower than it could be" not in said, said  # another kernel would sum otherwise
    assert found == [], said


def test_a_training_at_its_last_update_is_not_trained_on(trained):
    _, stopped, said = trained
    assert said.count("at its end already") == 1
    assert load(stopped / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 10
