import json
import re
import shlex

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.runs import evaluation
from el_fairseq.runs.experiment import (
    FOLDER,
    KEYS,
    criterion_options,
    names,
    option_value,
    read_experiment,
)

SMALLEST = """
title = "Small"
[corpus]
command = "make it"
[train]
options = "--arch transformer"
[evaluate]
best = true
"""
# fairseq-train's options before experiments were TOML files, word for word.
IWSLT14 = (
    "--arch transformer_iwslt_de_en --dropout 0.4 --label-smoothing 0.1 --optimizer adam "
    "--adam-betas '(0.9, 0.98)' --weight-decay 0.0001 --lr 1e-3 --lr-scheduler inverse_sqrt "
    "--warmup-updates 4000 --max-tokens 4096 --update-freq 4 --max-update 20000 --eval-bleu "
    """--eval-bleu-args '{"beam": 5, "max_len_a": 1.2, "max_len_b": 10}' """
    "--eval-bleu-detok moses --eval-bleu-remove-bpe --best-checkpoint-metric bleu "
    "--maximize-best-checkpoint-metric --keep-interval-updates 10 --keep-last-epochs 10 "
    "--required-batch-size-multiple 1"
)
IWSLT17 = (
    "--arch transformer_iwslt_de_en --encoder-layers 2 --decoder-layers 2 "
    "--share-all-embeddings --dropout 0.3 --label-smoothing 0.1 --optimizer adam "
    "--adam-betas '(0.9, 0.98)' --weight-decay 0.001 --lr 0.0005 --lr-scheduler inverse_sqrt "
    "--warmup-updates 4000 --max-tokens 4096 --max-update 100000 --eval-bleu "
    """--eval-bleu-args '{"beam": 5, "max_len_a": 1.2, "max_len_b": 10}' """
    "--eval-bleu-detok moses --eval-bleu-remove-bpe sentencepiece --best-checkpoint-metric bleu "
    "--maximize-best-checkpoint-metric --keep-interval-updates 10 --keep-last-epochs 10 "
    "--required-batch-size-multiple 1"
)


@pytest.fixture
def written(tmp_path):
    """Reads an experiment from text."""

    def read(text, name="small.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_experiment(path)

    return read


@pytest.mark.parametrize(
    ("name", "options"), [("iwslt14-de-en", IWSLT14), ("iwslt17-fr-en", IWSLT17)]
)
def test_the_papers_trainings_are_asked_for_word_for_word(name, options):
    experiment = read_experiment(name)
    assert shlex.join(experiment.train_options) == options
    assert shlex.join(criterion_options("ce", None)) == (
        "--criterion label_smoothed_cross_entropy --report-accuracy"
    )
    assert shlex.join(criterion_options("el", experiment.log_ends[0])) == (
        "--criterion encouraging_loss --log-end 0.5 --report-accuracy"
    )
    assert evaluation.OPTIONS == ["--beam", "5", "--batch-size", "128"]
    assert experiment.evaluate_options == []
    assert (experiment.last, experiment.best) == (10, True)
    assert experiment.seeds == [1, 2, 3, 4, 5]


def test_every_experiment_of_the_repository_can_be_read():
    found = {name: read_experiment(name) for name in names()}
    assert {"home-assistant-de-en", "home-assistant-fr-en"} < set(found)
    for name, experiment in found.items():
        assert experiment.name == name
        kept = option_value(experiment.train_options, "--keep-last-epochs", None)
        assert int(kept) >= experiment.last


def test_what_is_left_out_has_the_documented_default(written):
    experiment = written(SMALLEST)
    assert experiment.name == "small"
    assert experiment.corpus.parts[-2:] == ("data", "small")
    assert experiment.command == ["make", "it"]
    assert experiment.tests is None and experiment.published is None
    assert (experiment.last, experiment.best, experiment.jobs, experiment.cpu) == (
        0,
        True,
        1,
        False,
    )
    assert experiment.criteria == ["ce", "el"] and experiment.log_ends == [0.5]


def test_options_are_in_shell_syntax_with_comments(written):
    text = SMALLEST.replace('"--arch transformer"', "'''\n--arch x # why\n--betas '(1, 2)'\n'''")
    assert written(text).train_options == ["--arch", "x", "--betas", "(1, 2)"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('title = "Small"', "", "title is missing, expected a text"),
        ('title = "Small"', "title = 3", "title is 3, expected a text"),
        ('command = "make it"', 'commend = "x"', "no key corpus.commend, expected corpus.command"),
        ("--arch transformer", "--arch '", 'train.options is "--arch \'", expected options'),
        ("best = true", "best = 1", "evaluate.best is 1, expected true or false"),
        ("best = true", "best = false", "neither last nor best"),
        ("best = true", "last = -1", "evaluate.last is -1, expected a whole number from 0"),
        ("best = true", "last = true", "evaluate.last is True, expected a whole number from 0"),
        ("best = true", "last = 2.5", "evaluate.last is 2.5, expected a whole number from 0"),
        ("best = true", "best = true\n[runs]\nseeds = [-1]", "runs.seeds is [-1], expected a list"),
        ("best = true", "best = true\n[runs]\nseeds = [1, 1]", "of different whole numbers"),
        ("best = true", "best = true\n[runs]\nseeds = 1", "runs.seeds is 1, expected a list"),
        ("best = true", "best = true\n[runs]\nlog-ends = [1.5]", "different numbers in (0, 1]"),
        ("best = true", 'best = true\n[runs]\ncriteria = "ce"', "runs.criteria is 'ce', expected"),
        ("best = true", "best = true\n[published]\nscores = {CE = 3}", "published.scores is {"),
        ("[train]", "[train", "is no TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_what_was_expected(written, old, new, reason):
    with pytest.raises(UserError) as caught:
        written(SMALLEST.replace(old, new))
    assert "small.toml" in str(caught.value) and "\n" not in str(caught.value)
    assert reason in str(caught.value)


def test_a_name_that_no_folder_could_have_is_refused(written):
    with pytest.raises(UserError, match="the file's name names the experiment"):
        written(SMALLEST, "two words.toml")


def test_an_unknown_name_is_told_which_there_are():
    with pytest.raises(UserError, match=r"no experiment nonsense: name one of .*iwslt14-de-en, "):
        read_experiment("nonsense")


README = (FOLDER.parent / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_is_an_experiment(written):
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    experiment = written(example)
    assert experiment.last == 5 and experiment.command[-1] == "in/test"
    assert option_value(experiment.train_options, "--keep-last-epochs", None) == "5"


def test_the_readme_explains_every_key_with_its_default():
    explained = dict(re.findall(r"^\| `([a-z.-]+)` \| (.*?) \|", README, re.MULTILINE))
    shown = {"title", "corpus.command", "train.options"}
    assert set(KEYS) == shown | set(explained)
    for key, text in explained.items():
        default = KEYS[key][2]
        if isinstance(default, (bool, int)) or (isinstance(default, list) and default):
            assert text.strip("`") == json.dumps(default)
