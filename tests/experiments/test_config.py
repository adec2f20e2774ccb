import json
import re
import shlex

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import evaluate
from el_fairseq.experiments.config import FOLDER, Experiment, names, read_experiment

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
    assert shlex.join(experiment.train.options) == options
    assert {one: shlex.join(words) for one, words in experiment.losses.items()} == {
        "CE": "--criterion label_smoothed_cross_entropy",
        "EL": "--criterion encouraging_loss --log-end 0.5",
    }
    assert evaluate.OPTIONS == ["--beam", "5", "--batch-size", "128"]
    assert experiment.evaluate.options == []
    assert (experiment.evaluate.last, experiment.evaluate.best) == (10, True)
    assert experiment.runs.seeds == [1, 2, 3, 4, 5]


def test_every_experiment_of_the_repository_can_be_read():
    found = {name: read_experiment(name) for name in names()}
    assert {"home-assistant-de-en", "home-assistant-fr-en", "multi30k-de-en"} < set(found)
    for name, experiment in found.items():
        assert experiment.name == name
        kept = experiment.train.options.index("--keep-last-epochs") + 1
        assert int(experiment.train.options[kept]) >= experiment.evaluate.last


def test_multi30k_is_trained_by_the_published_recipe_in_every_direction():
    found = [read_experiment(f"multi30k-{pair}").train for pair in ("de-en", "fr-en", "en-de")]
    assert found[0] == found[1] == found[2]
    for words in (
        "--encoder-layers 4 --decoder-layers 4 --encoder-embed-dim 128 --decoder-embed-dim 128",
        "--encoder-ffn-embed-dim 256 --decoder-ffn-embed-dim 256 --encoder-attention-heads 4",
        "--share-all-embeddings --dropout 0.3 --label-smoothing 0.1 --optimizer adam",
        "--adam-betas '(0.9, 0.98)' --clip-norm 25 --weight-decay 0 --lr 0.004",
        "--lr-scheduler inverse_sqrt --warmup-updates 2000 --warmup-init-lr 1e-07 --max-tokens",
        "--max-tokens 1024",
        "--max-update 20000",
    ):
        assert words in shlex.join(found[0].options)


def test_options_are_in_shell_syntax_and_what_is_left_out_has_the_documented_default(written):
    options = "'''\n--arch x # why\n--betas '(1, 2)'\n'''"
    experiment = written(SMALLEST.replace('"--arch transformer"', options))
    assert experiment.name == "small"
    assert experiment.train.options == ["--arch", "x", "--betas", "(1, 2)"]
    assert experiment.data.parts[-2:] == ("data", "small")
    assert experiment.corpus.command == ["make", "it"]
    assert experiment.corpus.tests is None and experiment.published.scores == {}
    assert (experiment.evaluate.last, experiment.evaluate.best) == (0, True)
    assert (experiment.runs.jobs, experiment.runs.cpu) == (1, False)
    assert list(experiment.losses) == ["CE", "EL"]


def test_an_experiment_names_its_losses_each_with_its_options(written):
    text = f"""{SMALLEST}
[losses]
"no smoothing" = "--criterion cross_entropy"
"EL, delayed" = "--criterion encouraging_loss --bonus-delay-updates 100"
"""
    experiment = written(text)
    assert list(experiment.losses) == ["no smoothing", "EL, delayed"]
    loss = experiment.loss("el, DELAYED")
    assert (loss.name, loss.slug) == ("EL, delayed", "el-delayed")
    assert experiment.loss("el-delayed") == loss
    assert loss.options[-1] == "100"
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
        ("best = true", "last = true", "evaluate.last is True: input should be a valid int"),
        ("best = true", "last = 2.5", "evaluate.last is 2.5: input should be a valid int"),
        ("[train]", "[runs]\nseeds = [-1]\n[train]", "runs.seeds.0 is -1: input should be gr"),
        ("[train]", "[runs]\nseeds = [1, 1]\n[train]", "runs.seeds is [1, 1]: expected no value"),
        ("[train]", "[runs]\nseeds = 1\n[train]", "runs.seeds is 1: "),
        ("[train]", "[runs]\nlog-ends = [1.5]\n[train]", "there is no key runs.log-ends"),
        ("[train]", "[losses]\nCE = 3\n[train]", "losses.CE is 3: expected options"),
        ("[train]", "[losses]\n'C E' = ''\nc-e = ''\n[train]", "would name their runs c-e"),
        ("[train]", "[published]\nscores = {CE = 3}\n[train]", "published.scores.CE is 3: "),
        ("[train]", "[published]\nscores = {XX = [1, 2]}\n[train]", "names XX, expected some"),
        ("[train]", "[published]\nmeasure = 'blue'\n[train]", "published.measure is 'blue': "),
        ("[train]", "[train", "is no TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_what_was_expected(written, old, new, reason):
    with pytest.raises(UserError) as caught:
        written(SMALLEST.replace(old, new))
    assert "small.toml" in str(caught.value) and "\n" not in str(caught.value)
    assert reason in str(caught.value)


def test_an_unknown_name_is_told_which_there_are():
    with pytest.raises(UserError, match=r"no experiment nonsense: name one of .*iwslt14-de-en, "):
        read_experiment("nonsense")


README = (FOLDER.parent / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_is_an_experiment(written):
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    experiment = written(example)
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
