"""The configurations for fairseq-hydra-train: the experiments' settings, and a sweep that runs."""

import dataclasses
import shlex

import pytest
import torch
from conftest import ROOT, run, succeed
from fairseq import options
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, merge_with_parent
from fairseq.models.transformer import TransformerConfig

pytest.importorskip("tomllib", reason="needs Python 3.11")

import tomllib
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import el_fairseq.criterion  # noqa: F401  (registers the criterion, whose options are merged)

CONFIG = ROOT / "el_fairseq" / "config"
EXPERIMENTS = {
    "home-assistant": "home-assistant-de-en",
    "iwslt14-de-en": "iwslt14-de-en",
    "iwslt17-fr-en": "iwslt17-fr-en",
}


def composed(name):
    """What fairseq-hydra-train makes of a configuration."""
    hydra_init(name)
    with initialize_config_dir(str(CONFIG), version_base="1.1"):
        cfg = compose(name, overrides=["task.data=data-bin", "common.fp16=false"])
    add_defaults(cfg)
    cfg.model = merge_with_parent(TransformerConfig(), cfg.model)  # as the task does
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


def of_command_line(experiment):
    """What fairseq-train makes of the experiment's options."""
    text = (ROOT / "scripts" / "experiments" / f"{experiment}.toml").read_text()
    words = shlex.split(tomllib.loads(text)["train"]["options"], comments=True)
    args = options.parse_args_and_arch(
        options.get_training_parser(),
        ["data-bin", "--user-dir", "el_fairseq", "--criterion", "encouraging_loss", *words],
    )
    cfg = convert_namespace_to_omegaconf(args)
    container = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return {**container, "model": dataclasses.asdict(TransformerConfig.from_namespace(cfg.model))}


def without_names(values):
    """The settings alone, not what their groups are called."""
    if not isinstance(values, dict):
        return values
    return {key: without_names(value) for key, value in values.items() if key != "_name"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_configuration_sets_what_its_experiment_sets(name):
    actual, expected = composed(name), of_command_line(EXPERIMENTS[name])
    sections = ("common", "task", "criterion", "optimizer", "lr_scheduler", "dataset", "model")
    for section in (*sections, "optimization", "checkpoint"):
        assert without_names(actual[section]) == without_names(expected[section]), section


def test_a_sweep_over_log_ends_trains_once_for_each(small_corpus, tmp_path):
    small = ("layers=1", "embed_dim=8", "ffn_embed_dim=8", "attention_heads=2")
    sizes = [f"model.{side}.{size}" for side in ("encoder", "decoder") for size in small]
    result = run(
        [
            *("fairseq-hydra-train", "--config-dir", CONFIG, "--config-name", "home-assistant"),
            *("--multirun", f"common.user_dir={ROOT / 'el_fairseq'}", "common.cpu=true"),
            *(f"task.data={small_corpus.translation}", "criterion.log_end=0.5,0.75"),
            *("optimization.max_update=2", *sizes),
        ],
        cwd=tmp_path,
    )
    succeed(result)
    checkpoints = sorted(tmp_path.rglob("checkpoint_last.pt"))
    ends = [torch.load(path)["cfg"]["criterion"]["log_end"] for path in checkpoints]
    assert ends == [0.5, 0.75]
