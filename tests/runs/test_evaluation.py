import json

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.runs import evaluation
from el_fairseq.runs.evaluation import evaluate, evaluation_name


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
    (run / "run.json").write_text(json.dumps({"data": str(corpus)}))
    (run / "training.json").write_text('{"updates": 10, "minutes": 1.0}')
    monkeypatch.setattr(evaluation, "average_last", lambda folder, last, output: output.touch())

    def translate(folder, checkpoint, wanted, manifest, lock):
        translated.append(wanted)
        (folder / "generate-test.txt").write_text("H-0\t-1\ta house\nH-1\t-1\ta tree\n")

    translated = []
    monkeypatch.setattr(evaluation, "_translate", translate)
    return run, translated


def test_scores_that_are_there_are_shown_again_and_other_options_are_scored_apart(trained):
    run, translated = trained
    first = evaluate(run, None, 5, "test", [])
    assert evaluate(run, None, 5, "test", []) == first
    assert len(translated) == 1
    other = evaluate(run, None, 5, "test", ["--beam", "1"])
    assert (first.name, other.name) == ("test-averaged5", "test-averaged5-beam-1")
    assert translated[1]["options"] == ["--beam", "1"]


def test_the_usual_options_given_are_no_other_evaluation():
    assert evaluation_name("test", 0, ["--batch-size", "128", "--beam", "5"]) == "test-best"
    assert evaluation_name("test", 10, ["--lenpen", "0.6"]) == "test-averaged10-lenpen-0.6"


def test_scores_of_another_corpus_are_not_shown_for_this_one(trained, tmp_path):
    run, translated = trained
    evaluate(run, None, 5, "test", [])
    other = tmp_path / "other"
    (tmp_path / "corpus").rename(other)
    with pytest.raises(UserError, match=r"test-averaged5 holds scores with data .*corpus, now it"):
        evaluate(run, other, 5, "test", [])
    assert len(translated) == 1


def test_a_run_that_is_not_finished_is_not_scored(trained):
    run, translated = trained
    (run / "training.json").unlink()
    with pytest.raises(UserError, match="not trained to its end"):
        evaluate(run, None, 5, "test", [])
    assert not translated


def test_scores_of_an_earlier_training_in_the_folder_are_made_again(trained):
    run, translated = trained
    evaluate(run, None, 5, "test", [])
    (run / "training.json").write_text('{"updates": 20, "minutes": 2.0}')
    evaluate(run, None, 5, "test", [])
    assert len(translated) == 2


def test_scores_of_which_nobody_knows_what_they_are_of_are_made_again(trained):
    run, translated = trained
    out = evaluate(run, None, 5, "test", [])
    (out / "evaluation.json").unlink()
    evaluate(run, None, 5, "test", [])
    assert len(translated) == 2


@pytest.mark.parametrize("name", ["run.json", "training.json", "evaluation/test-best/scores.json"])
@pytest.mark.parametrize("content", ["", "null", "{"])
def test_a_damaged_state_file_is_named_with_what_to_do(trained, monkeypatch, name, content):
    run, _ = trained
    monkeypatch.setattr(evaluation, "load", lambda path: None)
    evaluate(run, None, 0, "test", [])
    (run / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} is damaged .*(train|evaluate)"):
        evaluate(run, None, 0, "test", [])


def test_a_set_that_the_corpus_has_not_is_refused_before_anything_is_made(trained):
    run, _ = trained
    with pytest.raises(UserError, match="has no set 'tst2015'"):
        evaluate(run, None, 5, "tst2015", [])
    assert not (run / "evaluation").exists()
