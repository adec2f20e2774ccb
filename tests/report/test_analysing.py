from dataclasses import replace

import pytest
from made_runs import KIND, write_experiment

from el_fairseq.common.cli import UserError
from el_fairseq.common.text import lines_of
from el_fairseq.corpora import manifest
from el_fairseq.report import analysing


def record(loss, seed):
    return {"run": f"{loss.lower()}-seed{seed}", "loss": loss, "seed": seed}


def results_of(*records, kind="averaged5"):
    return {"tests": ["test"], "checkpoints": [kind], "runs": records}


def test_one_run_of_each_loss_is_analysed_with_the_checkpoint_it_was_scored_with(tmp_path):
    records = [record("CE", 1), record("CE", 2), record("EL, late", 1), record("EL, late", 2)]
    averaged = {}
    for each in records:
        averaged[each["run"]] = tmp_path / each["run"] / "evaluation/test-averaged5/averaged.pt"
        averaged[each["run"]].parent.mkdir(parents=True)
        averaged[each["run"]].touch()
    assert analysing.models_of(tmp_path, results_of(*records)) == {
        "CE": averaged["ce-seed1"],
        "EL late": averaged["el, late-seed1"],
    }
    with pytest.raises(
        UserError, match=r"there is no .*el 0\.75-seed1.*the checkpoint of EL 0\.75"
    ):
        analysing.models_of(tmp_path, results_of(*records, record("EL 0.75", 1)))
    best = tmp_path / "ce-seed1" / "checkpoints" / "checkpoint_best.pt"
    best.parent.mkdir()
    best.touch()
    assert analysing.models_of(tmp_path, results_of(records[0], kind="best")) == {"CE": best}


def test_the_everyday_sentences_are_translations_of_each_other_line_by_line():
    texts = {path.stem: lines_of(path) for path in analysing.EVERYDAY.iterdir()}
    assert set(texts) == {"de", "en", "fr"}
    assert {len(lines) for lines in texts.values()} == {50}
    assert all(line.strip() == line and line for lines in texts.values() for line in lines)
    rows = [row for row in zip(texts["de"], texts["en"], texts["fr"]) if "Paris" in row[1]]
    assert rows
    assert all("Paris" in line for row in rows for line in row)


def test_other_texts_have_the_form_of_the_corpus(tiny):
    texts = analysing.other_texts(manifest.read(tiny.folder), "test")
    assert list(texts) == ["shuffled words", "everyday sentences", "everyday sentences in French"]
    assert texts["shuffled words"][0] == lines_of(tiny.text / "test.de")
    source, target, seed = texts["everyday sentences in French"]
    assert "Le cheval a sauté par-dessus la clôture." in source
    assert "The horse jumped over the fence." in target
    assert seed is None


def test_several_test_sets_as_one_are_one_text(tiny):
    corpus = replace(
        manifest.read(tiny.folder), tests={"talks": "test", "news": "valid"}, pooled=True
    )
    source, target, _ = analysing.other_texts(corpus, "all")["shuffled words"]
    assert source == [*lines_of(tiny.text / "test.de"), *lines_of(tiny.text / "valid.de")]
    assert len(target) == 43 + 30


def test_other_texts_of_a_moses_corpus_are_tokenized_and_lowercased_as_it_is(tiny):
    corpus = manifest.read(tiny.folder)
    moses = replace(corpus, tokenizer="moses", lowercased=True)
    source, target, _ = analysing.other_texts(moses, "test")["everyday sentences"]
    assert "das pferd sprang über den zaun ." in source
    assert "the horse jumped over the fence ." in target


def test_an_analysis_is_made_again_only_when_its_inputs_changed(tiny, tmp_path, monkeypatch):
    made = []

    def analysis(command, **_):
        made.append(command)
        (tmp_path / "analysis" / "analysis.json").touch()
        return 0

    monkeypatch.setattr(analysing.processes, "call", analysis)
    monkeypatch.setattr(analysing, "_binarize", lambda *_: None)
    results = write_experiment(tmp_path, tiny, seeds=[1])
    checkpoint = tmp_path / "ce-seed1" / "evaluation" / f"test-{KIND}" / "averaged.pt"

    def times(options=()):
        analysing.analyse(tmp_path, results, list(options))
        return len(made)

    assert times() == 1
    (tmp_path / "results.json").touch()
    checkpoint.touch()
    assert times() == 1
    checkpoint.write_bytes(b"another")
    assert times() == 2
    assert times(["--beam", "2"]) == 3
    (tmp_path / "analysis" / analysing.MADE_OF).write_text("{")
    assert times(["--beam", "2"]) == 4


def test_an_analysis_that_failed_is_made_again(tiny, tmp_path, monkeypatch):
    status = iter([1, 0, 0])
    monkeypatch.setattr(analysing.processes, "call", lambda c, **_: next(status))
    monkeypatch.setattr(analysing, "_binarize", lambda *_: None)
    results = write_experiment(tmp_path, tiny, seeds=[1])
    with pytest.raises(UserError, match="the analysis failed"):
        analysing.analyse(tmp_path, results, [])
    analysing.analyse(tmp_path, results, [])
    assert list(status) == [0]
