import json

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.runs import evaluation
from el_fairseq.runs.evaluation import evaluate
from el_fairseq.runs.training import IDENTITY


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A finished run of a corpus of two sentences, translated without fairseq."""
    corpus, run = tmp_path / "corpus", tmp_path / "el0.5-seed1"
    (corpus / "text").mkdir(parents=True)
    (corpus / "text" / "test.en").write_text("a house\na tree\n")
    (corpus / "manifest.json").write_text(
        '{"source": "de", "target": "en", "tokenizer": null, "subwords": null}'
    )
    run.mkdir()
    asked = {**dict.fromkeys(IDENTITY), "format": 2, "experiment": "small", "data": str(corpus)}
    (run / "run.json").write_text(json.dumps(asked))
    (run / "training.json").write_text('{"updates": 10, "minutes": 1.0}')
    monkeypatch.setattr(evaluation, "average_last", lambda folder, last, output: output.touch())

    def translate(folder, checkpoint, corpus, test, options, lock):
        translated.append(options)
        (folder / "generate-test.txt").write_text("H-0\t-1\ta house\nH-1\t-1\ta tree\n")

    translated = []
    monkeypatch.setattr(evaluation, "_translate", translate)
    return run, translated


def test_scores_that_are_there_are_shown_again(trained):
    run, translated = trained
    scores = evaluate(run, None, 5, "test") / "scores.json"
    scores.write_text('{"bleu": 1.0}')
    assert evaluate(run, None, 5, "test") == scores.parent
    assert len(translated) == 1 and scores.read_text() == '{"bleu": 1.0}'


def test_scores_with_other_options_are_refused_or_made_beside_them(trained):
    run, translated = trained
    evaluate(run, None, 5, "test")
    with pytest.raises(UserError, match=r"averaged5 holds scores with options '', now it is '--be"):
        evaluate(run, None, 5, "test", ["--beam", "1"])
    other = evaluate(run, None, 5, "test", ["--beam", "1"], name="greedy")
    assert other.name == "test-averaged5-greedy"
    assert translated == [(), ["--beam", "1"]]


def test_scores_of_another_corpus_are_not_shown_for_this_one(trained, tmp_path):
    run, translated = trained
    evaluate(run, None, 5, "test")
    other = tmp_path / "other"
    (tmp_path / "corpus").rename(other)
    with pytest.raises(UserError, match=r"test-averaged5 holds scores with data .*corpus', now it"):
        evaluate(run, other, 5, "test")
    assert len(translated) == 1


def test_a_run_that_is_not_finished_is_not_scored(trained):
    run, translated = trained
    (run / "training.json").unlink()
    with pytest.raises(UserError, match="not trained to its end"):
        evaluate(run, None, 5, "test")
    assert not translated


def test_scores_of_an_earlier_training_in_the_folder_are_made_again(trained):
    run, translated = trained
    evaluate(run, None, 5, "test")
    (run / "training.json").write_text('{"updates": 20, "minutes": 2.0}')
    evaluate(run, None, 5, "test")
    assert len(translated) == 2


def test_scores_of_which_nobody_knows_what_they_are_of_are_made_again(trained):
    run, translated = trained
    out = evaluate(run, None, 5, "test")
    (out / "evaluation.json").unlink()
    evaluate(run, None, 5, "test")
    assert len(translated) == 2


@pytest.mark.parametrize("name", ["run.json", "training.json", "evaluation/test-best/scores.json"])
@pytest.mark.parametrize("content", ["", "null", "{"])
def test_a_damaged_state_file_is_named_with_what_to_do(trained, monkeypatch, name, content):
    run, _ = trained
    monkeypatch.setattr(evaluation, "load", lambda path: None)
    evaluate(run, None, 0, "test")
    (run / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} is (damaged|of format) .*(train|evaluate)"):
        evaluate(run, None, 0, "test")


def test_a_set_that_the_corpus_has_not_is_refused_before_anything_is_made(trained):
    run, _ = trained
    with pytest.raises(UserError, match="has no test set 'tst2015'"):
        evaluate(run, None, 5, "tst2015")
    assert not (run / "evaluation").exists()
