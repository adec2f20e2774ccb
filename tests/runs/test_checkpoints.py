import argparse
import os
import pickle
import sys

import numpy as np
import pytest
import torch
from conftest import run

from el_fairseq.common.cli import UserError
from el_fairseq.runs.average import average
from el_fairseq.runs.checkpoints import epoch_checkpoints, load, repair


def save(path, weight, **more):
    model = {"weight": torch.tensor(weight), "version": torch.tensor([len(weight)])}
    state = {"model": model, "args": argparse.Namespace(arch="t"), **more}
    torch.save({"last_optimizer_state": {"step": 1}, **state}, path)
    return path


class TouchesAFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_the_safe_loader_reads_the_options_that_fairseq_stores(tmp_path):
    path = save(tmp_path / "checkpoint1.pt", [1.0])
    assert load(path)["args"].arch == "t"


def test_a_checkpoint_that_carries_code_is_refused_and_does_not_run_it(tmp_path):
    touched = tmp_path / "touched"
    path = save(tmp_path / "checkpoint1.pt", [1.0], extra_state=TouchesAFile(touched))
    with pytest.raises(UserError, match=r"checkpoint1\.pt was refused by torch's safe loader"):
        load(path)
    assert not touched.exists()
    pickle.loads(pickle.dumps(TouchesAFile(touched)))
    assert touched.exists(), "the checkpoint's code would have run under an unsafe loader"


@pytest.mark.parametrize("keep", [0, 100])
def test_a_checkpoint_that_is_cut_off_is_named(tmp_path, keep):
    path = save(tmp_path / "checkpoint1.pt", [1.0])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"checkpoint1\.pt"):
        load(path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint .*checkpoint7\.pt"):
        load(tmp_path / "checkpoint7.pt")


def test_epoch_checkpoints_come_in_the_order_of_epochs_without_best_and_last(tmp_path):
    for name in ("10", "2", "_3_400", "_best", "_last", "9"):
        (tmp_path / f"checkpoint{name}.pt").touch()
    names = [path.name for path in epoch_checkpoints(tmp_path)]
    assert names == ["checkpoint2.pt", "checkpoint9.pt", "checkpoint10.pt"]


def test_averaging_means_floats_keeps_their_dtype_and_takes_the_rest_from_the_last(tmp_path):
    paths = [
        save(tmp_path / "1.pt", [1.0, 2.0, 6.0]),
        save(tmp_path / "2.pt", [2.0, 4.0, -6.0]),
        save(tmp_path / "3.pt", [6.0, 0.0, 3.0], extra_state={"epoch": 3}),
    ]
    averaged = average(paths)
    assert averaged["model"]["weight"].dtype == torch.float32
    assert averaged["model"]["weight"].tolist() == [3.0, 2.0, 1.0]
    assert averaged["model"]["version"].tolist() == [3]
    assert averaged["extra_state"] == {"epoch": 3}
    assert averaged["last_optimizer_state"] is None


def test_half_precision_checkpoints_are_summed_in_higher_precision(tmp_path):
    paths = []
    for i in range(10):
        paths.append(tmp_path / f"{i}.pt")
        torch.save(
            {"model": {"weight": torch.tensor([1000.0 + i], dtype=torch.float16)}}, paths[-1]
        )
    assert average(paths)["model"]["weight"].item() == torch.tensor(1004.5).half().item()


def test_checkpoints_of_different_models_are_not_averaged(tmp_path):
    paths = [save(tmp_path / "1.pt", [1.0]), save(tmp_path / "2.pt", [1.0, 2.0])]
    with pytest.raises(UserError, match=r"2\.pt is of another model than .*1\.pt"):
        average(paths)


def test_too_few_checkpoints_to_average_end_in_one_line(tmp_path):
    save(tmp_path / "checkpoint1.pt", [1.0])
    command = [sys.executable, "-m", "el_fairseq.runs.average", tmp_path, "--last", 2]
    result = run([*command, "--output", tmp_path / "averaged.pt"])
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "holds 1 epoch checkpoints, expected 2" in result.stderr
    assert not (tmp_path / "averaged.pt").exists()


def test_parts_that_a_kill_left_are_replaced_by_the_latest_numbered_checkpoint(tmp_path):
    save(tmp_path / "checkpoint1.pt", [1.0])
    latest = save(tmp_path / "checkpoint2.pt", [2.0])
    os.utime(tmp_path / "checkpoint1.pt", (1, 1))
    whole = latest.read_bytes()
    (tmp_path / "checkpoint_last.pt").write_bytes(whole[:500])
    best = save(tmp_path / "checkpoint_best.pt", [0.0]).read_bytes()
    (tmp_path / "checkpoint3.pt.tmp").write_bytes(whole[:10])
    repair(tmp_path)
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == whole
    assert (tmp_path / "checkpoint_best.pt").read_bytes() == best
    assert not (tmp_path / "checkpoint3.pt.tmp").exists()


def test_the_counts_of_bleu_in_a_checkpoint_of_a_run_validated_by_bleu_are_loaded(tmp_path):
    path = tmp_path / "checkpoint1.pt"
    counts = np.array([4, 3, 2, 1])
    torch.save({"model": {}, "extra_state": {"counts": counts, "mean": np.array([0.5])}}, path)
    assert load(path)["extra_state"]["counts"].tolist() == [4, 3, 2, 1]
