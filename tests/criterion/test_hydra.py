"""The criterion's group of options for fairseq-hydra-train."""

import dataclasses

import pytest
import torch
import yaml
from conftest import ROOT, run, succeed
from sizes import transformer

from el_fairseq.criterion import EncouragingLossCriterionConfig

hydra = pytest.importorskip("hydra", minversion="1.1", reason="hydra.searchpath is of Hydra 1.1")

CONFIG = ROOT / "el_fairseq" / "config"


def test_a_sweep_over_log_ends_trains_once_for_each(small, tmp_path):
    sizes = {"encoder": {}, "decoder": {}}
    for name, value in transformer(8).items():
        side, _, size = name.partition("_")
        sizes[side][size] = value
    settings = {
        "defaults": ["_self_", {"criterion": "encouraging_loss"}],
        "common": {"user_dir": str(ROOT / "el_fairseq"), "cpu": True},
        "task": {"_name": "translation", "data": str(small / "bin")},
        "model": {"_name": "transformer", **sizes},
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {"_name": "fixed"},
        "optimization": {"lr": [0.01], "max_update": 2},
        "dataset": {"max_tokens": 64, "num_workers": 0},
    }
    (tmp_path / "my.yaml").write_text("# @package _global_\n" + yaml.safe_dump(settings))
    result = run(
        [
            *("fairseq-hydra-train", "--config-dir", tmp_path, "--config-name", "my"),
            *("--multirun", f"hydra.searchpath=[{CONFIG}]", "criterion.log_end=0.5,0.75"),
        ],
        cwd=tmp_path,
    )
    succeed(result)
    checkpoints = sorted(tmp_path.rglob("checkpoint_last.pt"))
    options = [torch.load(path)["cfg"]["criterion"] for path in checkpoints]
    assert [each["log_end"] for each in options] == [0.5, 0.75]
    assert all(each["label_smoothing"] == 0.1 for each in options)


def test_the_group_has_every_option_of_the_criterion():
    group = yaml.safe_load((CONFIG / "criterion" / "encouraging_loss.yaml").read_text())
    options = {field.name for field in dataclasses.fields(EncouragingLossCriterionConfig)}
    assert set(group) - {"_name"} == options - {"_name", "sentence_avg"}
