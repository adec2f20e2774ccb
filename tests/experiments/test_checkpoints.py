import argparse
import pickle
import resource

import numpy as np
import pytest
import torch
from made import TouchesAFile

from el_fairseq.common.cli import UserError
from el_fairseq.experiments.checkpoints import average_last, copy
from el_fairseq.experiments.checkpoints import save as save_whole
from el_fairseq.safe_load import load


def save(path, weight, **more):
    model = {"weight": torch.as_tensor(weight), "version": torch.tensor([len(weight)])}
    state = {"model": model, "args": argparse.Namespace(arch="t"), **more}
    torch.save({"last_optimizer_state": {"step": 1}, **state}, path)
    return path


def test_a_checkpoint_that_carries_code_is_refused_and_does_not_run_it(tmp_path):
    touched = tmp_path / "touched"
    path = save(tmp_path / "checkpoint1.pt", [1.0], extra_state=TouchesAFile(touched))
    with pytest.raises(UserError, match=r"checkpoint1\.pt was refused by torch's safe loader"):
        load(path)
    assert not touched.exists()
    pickle.loads(pickle.dumps(TouchesAFile(touched)))
    assert touched.exists(), "the checkpoint's code would have run under an unsafe loader"


@pytest.mark.parametrize("damage", ["cut off", "zeros in it, as a power cut can leave"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = save(tmp_path / "checkpoint_last.pt", [2.0])
    content, tensor = path.read_bytes(), torch.tensor([2.0]).numpy().tobytes()
    assert content.count(tensor) == 1
    path.write_bytes(content[:-200] if damage == "cut off" else content.replace(tensor, bytes(4)))
    with pytest.raises(UserError, match=r"checkpoint_last\.pt is no whole checkpoint"):
        load(path)


def averaged(folder, last):
    average_last(folder, last, folder / "averaged.pt")
    return load(folder / "averaged.pt")


def test_averaging_means_floats_keeps_their_dtype_and_takes_the_rest_from_the_last_epoch(tmp_path):
    save(tmp_path / "checkpoint8.pt", [1.0, 2.0, 6.0])
    save(tmp_path / "checkpoint9.pt", [2.0, 4.0, -6.0])
    save(tmp_path / "checkpoint10.pt", [6.0, 0.0, 3.0], extra_state={"epoch": 10})
    for other in ("7", "_8_400", "_best", "_last"):
        save(tmp_path / f"checkpoint{other}.pt", [100.0, 100.0, 100.0])
    state = averaged(tmp_path, 3)
    assert state["model"]["weight"].dtype == torch.float32
    assert state["model"]["weight"].tolist() == [3.0, 2.0, 1.0]
    assert state["model"]["version"].tolist() == [3]
    assert state["extra_state"] == {"epoch": 10}
    assert state["last_optimizer_state"] is None


def test_half_precision_checkpoints_are_summed_in_higher_precision(tmp_path):
    for i in range(10):
        model = {"weight": torch.tensor([1000.0 + i], dtype=torch.float16)}
        torch.save({"model": model}, tmp_path / f"checkpoint{i}.pt")
    weight = averaged(tmp_path, 10)["model"]["weight"]
    assert weight.item() == torch.tensor(1004.5).half().item()


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ([[1.0]], "holds 1 epoch checkpoints, expected 2 to average: train"),
        ([[1.0], [1.0, 2.0]], r"2\.pt is of another model than .*1\.pt"),
    ],
)
def test_what_cannot_be_averaged_ends_in_one_line(tmp_path, weights, reason):
    for number, weight in enumerate(weights, 1):
        save(tmp_path / f"checkpoint{number}.pt", weight)
    with pytest.raises(UserError, match=reason):
        average_last(tmp_path, 2, tmp_path / "averaged.pt")
    assert not (tmp_path / "averaged.pt").exists()


@pytest.mark.parametrize("how", ["save", "copy"])
def test_a_checkpoint_that_does_not_fit_is_named_and_leaves_the_one_before(tmp_path, how):
    path = save(tmp_path / "checkpoint_last.pt", [1.0])
    large = save(tmp_path / "large.pt", torch.zeros(10000))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), limits[1]))
    try:
        with pytest.raises(UserError, match=r"checkpoint_last\.pt could not be written \(File too"):
            copy(large, path) if how == "copy" else save_whole(load(large), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert {one.name for one in tmp_path.iterdir()} == {"checkpoint_last.pt", "large.pt"}


def test_the_counts_of_bleu_in_a_checkpoint_of_a_run_validated_by_bleu_are_loaded(tmp_path):
    path = tmp_path / "checkpoint1.pt"
    counts = np.array([4, 3, 2, 1])
    torch.save({"model": {}, "extra_state": {"counts": counts, "mean": np.array([0.5])}}, path)
    assert load(path)["extra_state"]["counts"].tolist() == [4, 3, 2, 1]
