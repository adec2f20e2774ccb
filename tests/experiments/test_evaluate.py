import json

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import evaluate as evaluation
from el_fairseq.experiments.evaluate import evaluate
from el_fairseq.experiments.train import FORMAT, IDENTITY, identity_of_corpus


def write_corpus(folder, **manifest):
    (folder / "text").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "dict.de.txt").write_text("a 1\n")
    for subset, words in (("test", "house tree"), ("test1", "hill")):
        (folder / "bin" / f"{subset}.de-en.de.bin").write_text(words)
        for side in ("de", "en"):
            lines = "".join(f"a {word}\n" for word in words.split())
            (folder / "text" / f"{subset}.{side}").write_text(lines)
    manifest = {"source": "de", "target": "en", "tokenizer": None, "subwords": None, **manifest}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A finished run, whose translations are those of two test sets, made without fairseq."""
    corpus, run = tmp_path / "corpus", tmp_path / "el-seed1"
    write_corpus(corpus, tests={"test": "test", "news": "test1"}, all=True)
    run.mkdir()
    asked = {
        **dict.fromkeys(IDENTITY),
        **{"format": FORMAT, "experiment": "small", "data": str(corpus)},
        "corpus": identity_of_corpus(corpus / "bin"),
    }
    (run / "run.json").write_text(json.dumps(asked))
    (run / "training.json").write_text('{"updates": 10, "minutes": 1.0}')
    monkeypatch.setattr(evaluation, "average_last", lambda folder, last, output: output.touch())
    task = {"source_lang": "de", "target_lang": "en"}
    monkeypatch.setattr(evaluation, "load", lambda path: {"cfg": {"task": task}})

    def translate(run, folder, checkpoint, corpus, subset, options, stdin, env):
        translated.append((env.get("CUDA_VISIBLE_DEVICES"), options))
        lines = (corpus.folder / "text" / f"{subset}.en").read_text().splitlines()
        text = "".join(f"H-{i}\t-1\t{line}\n" for i, line in enumerate(lines))
        (folder / f"generate-{subset}.txt").write_text(text)

    translated = []
    monkeypatch.setattr(evaluation, "_translate", translate)
    return run, translated


def test_test_sets_that_are_scored_together_are_translated_once_each_on_the_runs_gpu(trained):
    run, translated = trained
    evaluate(run, 5, "news", gpus=("3", "4"))
    out = evaluate(run, 5, "all", gpus=("2",))
    assert translated == [("3", []), ("2", [])]
    assert (out / "hypotheses.en").read_text() == "a house\na tree\na hill\n"
    found = json.loads((out / "scores.json").read_text())
    assert (found["sentences"], found["chrf"], "tokenized_bleu" in found) == (3, 100, False)
    assert json.loads((out / "evaluation.json").read_text())["command"][-4:] == [
        *("--subset", "all", "--last", "5")
    ]


def test_scores_that_are_there_are_shown_again_also_where_nothing_can_be_written(trained):
    run, translated = trained
    scores = evaluate(run, 5, "test") / "scores.json"
    scores.write_text('{"bleu": 1.0}')
    (run / "lock").unlink()
    (run / "lock").mkdir()
    assert evaluate(run, 5, "test") == scores.parent
    assert len(translated) == 1 and scores.read_text() == '{"bleu": 1.0}'


def test_scores_with_other_options_are_refused_or_made_beside_them(trained):
    run, translated = trained
    evaluate(run, 5, "test")
    with pytest.raises(UserError, match=r"averaged5 holds scores with options '', not '--be"):
        evaluate(run, 5, "test", options=["--beam", "1"])
    other = evaluate(run, 5, "test", options=["--beam", "1"], name="greedy")
    assert other.name == "test-averaged5-greedy"
    assert [options for _, options in translated] == [[], ["--beam", "1"]]


def test_scores_are_those_of_a_corpus_by_its_content_wherever_it_is(trained, tmp_path):
    run, translated = trained
    evaluate(run, 5, "test")
    (tmp_path / "corpus").rename(tmp_path / "moved")
    evaluate(run, 5, "test", tmp_path / "moved")
    assert len(translated) == 1
    (tmp_path / "moved" / "bin" / "test.de-en.de.bin").write_text("another test set")
    with pytest.raises(UserError, match=r"test-averaged5 holds scores with corpus .*, not "):
        evaluate(run, 5, "test", tmp_path / "moved")
    assert len(translated) == 1


@pytest.mark.parametrize(
    ("languages", "dictionary", "reason"),
    [
        ({"source": "en", "target": "de"}, "a 1", "is en-de, and the run was trained to .* de-en"),
        ({}, "b 1", "does not have the dictionaries that the run was trained with, those of"),
    ],
)
def test_a_corpus_that_the_model_does_not_know_is_not_scored(
    trained, tmp_path, languages, dictionary, reason
):
    run, translated = trained
    other = tmp_path / "other"
    write_corpus(other, **languages)
    for language in ("de", "en"):
        (other / "bin" / f"dict.{language}.txt").write_text(f"{dictionary}\n")
    with pytest.raises(UserError, match=reason):
        evaluate(run, 5, "test", other, name="other")
    assert not translated and not list((run / "evaluation").glob("[!.]*"))


def test_other_test_sets_with_the_same_subwords_are_scored(trained, tmp_path):
    run, translated = trained
    write_corpus(tmp_path / "other")
    (tmp_path / "other" / "bin" / "train.de-en.de.bin").write_text("other text")
    evaluate(run, 5, "test", tmp_path / "other")
    assert len(translated) == 1


@pytest.mark.parametrize("name", ["training.json", "evaluation/test-averaged5/evaluation.json"])
def test_scores_of_an_earlier_training_or_of_who_knows_what_are_made_again(trained, name):
    run, translated = trained
    evaluate(run, 5, "test")
    if name == "training.json":
        (run / name).write_text('{"updates": 20, "minutes": 2.0}')
    else:
        (run / name).unlink()
    evaluate(run, 5, "test")
    assert len(translated) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"test": "tst2015"}, "has no test set 'tst2015'"),
        ({"test": "test", "options": ["--nbest", "3"]}, "--nbest is refused"),
        ({"test": "test"}, "training is not finished"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_made(trained, words, reason):
    run, translated = trained
    if "finished" in reason:
        (run / "training.json").unlink()
    with pytest.raises(UserError, match=reason):
        evaluate(run, 5, **words)
    assert not translated and not (run / "evaluation").exists()


@pytest.mark.parametrize("name", ["run.json", "evaluation/test-best/evaluation.json"])
def test_a_damaged_state_file_is_named_with_what_to_do(trained, name):
    run, _ = trained
    evaluate(run, 0, "test")
    (run / name).write_text("{")
    with pytest.raises(UserError, match=rf"{name} is damaged .*(train|evaluate)"):
        evaluate(run, 0, "test")
