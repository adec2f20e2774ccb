import json
import re

import pytest
from made import experiment_of

from el_fairseq.common.cli import UserError
from el_fairseq.experiments.config import FOLDER, Experiment, names, read_experiment
from el_fairseq.experiments.options import check_training

SMALLEST = """
title = "Small"
[corpus]
command = "make it"
[train]
options = "--arch transformer"
[evaluate]
best = true
"""


@pytest.mark.parametrize("name", names())
def test_every_experiment_of_the_repository_can_be_trained_and_evaluated(name):
    experiment = read_experiment(name)
    assert experiment.name == name and experiment.runs.seeds == [1, 2, 3, 4, 5]
    for loss in experiment.losses:
        assert check_training(experiment, loss).label_smoothing == 0.1
    if name.startswith("iwslt"):  # the paper's
        figures, losses = experiment.published.scores, experiment.losses
        assert figures.keys() == losses.keys() == {"CE", "EL"}
        assert losses["EL"] == ["--criterion", "encouraging_loss", "--log-end", "0.5"]


def test_options_are_in_shell_syntax(tmp_path):
    options = "'''\n--arch x # why\n--betas '(1, 2)'\n'''"
    experiment = experiment_of(tmp_path, SMALLEST.replace('"--arch transformer"', options))
    assert experiment.train.options == ["--arch", "x", "--betas", "(1, 2)"]
    assert experiment.corpus.command == ["make", "it"]


def test_an_experiment_names_its_losses_each_with_its_options(tmp_path):
    text = f"""{SMALLEST}
[losses]
"no smoothing" = "--criterion cross_entropy"
"EL, delayed" = "--criterion encouraging_loss --bonus-delay-updates 100"
"""
    experiment = experiment_of(tmp_path, text)
    assert list(experiment.losses) == ["no smoothing", "EL, delayed"]
    assert experiment.loss("el, DELAYED") == experiment.loss("el-delayed") == "EL, delayed"
    assert experiment.losses["EL, delayed"][-1] == "100"
    with pytest.raises(UserError, match=r"no loss CE in .*: name one of no smoothing, EL, delayed"):
        experiment.loss("CE")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('title = "Small"', "", "title is missing"),
        ('title = "Small"', "title = 3", "title is 3: input should be a valid string"),
        ('command = "make it"', 'commend = "x"', "no key corpus.commend, expected corpus.command"),
        ("--arch transformer", "--arch '", 'train.options is "--arch \'": no closing quot'),
        ("best = true", "best = 1", "evaluate.best is 1: input should be a valid bool"),
        ("best = true", "best = false", "neither last nor best"),
        ("best = true", "last = -1", "evaluate.last is -1: input should be greater"),
        ("best = true", "last = 2.5", "evaluate.last is 2.5: input should be a valid int"),
        ("[train]", "[runs]\nseeds = [-1]\n[train]", "runs.seeds.0 is -1: input should be gr"),
        ("[train]", "[runs]\nseeds = 1\n[train]", "runs.seeds is 1: "),
        ("[train]", "[runs]\nlog-ends = [1.5]\n[train]", "there is no key runs.log-ends"),
        ("[train]", "[losses]\nCE = 3\n[train]", "losses.CE is 3: expected options"),
        ("[train]", "[losses]\n'C E' = ''\nc-e = ''\n[train]", "would name their runs c-e"),
        ("[train]", "[published]\nscores = {CE = 3}\n[train]", "published.scores.CE is 3: "),
        ("[train]", "[published]\nscores = {XX = [1, 2]}\n[train]", "names XX, expected some"),
        ("[train]", "[published]\nmeasure = 'blue'\n[train]", "published.measure is 'blue': "),
        ("[train]", "path = 'x'\n[train]", "there is no key corpus.path"),
        ("[train]", "[train", "is no TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_what_was_expected(tmp_path, old, new, reason):
    with pytest.raises(UserError) as caught:
        experiment_of(tmp_path, SMALLEST.replace(old, new))
    assert "small.toml" in str(caught.value) and "\n" not in str(caught.value)
    assert reason in str(caught.value)


def test_a_wrong_section_is_refused_also_beside_a_number_of_checkpoints(tmp_path):
    text = "evaluate = 5\n" + SMALLEST.partition("[evaluate]")[0]
    with pytest.raises(UserError, match="evaluate is 5: "):
        experiment_of(tmp_path, text, last=3)


def test_an_unknown_name_is_told_which_there_are():
    with pytest.raises(UserError, match=r"no experiment nonsense: name one of .*iwslt14-de-en, "):
        read_experiment("nonsense")


README = (FOLDER.parent / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_is_an_experiment(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    experiment = experiment_of(tmp_path, example)
    assert experiment.evaluate.last == 5 and experiment.corpus.command[-1] == "in/test"


def test_the_readme_explains_every_key_with_its_default():
    explained = dict(re.findall(r"^\| `([a-z.-]+)` \| (.*?) \|", README, re.MULTILINE))
    keys = {}
    for name, field in Experiment.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None) or {"": field}
        keys.update({f"{name}.{key}".strip("."): one.default for key, one in inner.items()})
    assert set(keys) == {"title", "corpus.command", "train.options"} | set(explained)
    for key, text in explained.items():
        default = keys[key]
        if isinstance(default, (bool, int)) or (isinstance(default, list) and default):
            assert text.strip("`") == json.dumps(default)
