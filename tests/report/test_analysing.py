from dataclasses import replace

import pytest
from made import KIND, record, results_of, write_experiment

from el_fairseq.common.cli import UserError
from el_fairseq.common.files import lines_of
from el_fairseq.corpora import manifest
from el_fairseq.report import analysing


def test_one_run_of_each_loss_is_analysed_with_the_checkpoint_it_was_scored_with(tmp_path):
    def models(*losses, kind="averaged5"):
        runs = [record(loss, seed, 0) for loss in losses for seed in (1, 2)]
        made = results_of(runs, tmp_path, checkpoints=[kind], losses=list(losses))
        return analysing.models_of(made)

    averaged = {
        name: tmp_path / run / "evaluation" / "test-averaged5" / "averaged.pt"
        for name, run in (("CE", "ce-seed1"), ("EL late", "el,-late-seed1"))
    }
    best = tmp_path / "ce-seed1" / "checkpoints" / "checkpoint_best.pt"
    for path in (*averaged.values(), best):
        path.parent.mkdir(parents=True)
        path.touch()
    assert models("CE", "EL, late") == averaged
    assert models("CE", kind="best") == {"CE": best}
    with pytest.raises(UserError, match=r"no .*el-0\.75-seed1.*the checkpoint of EL 0\.75"):
        models("CE", "EL 0.75")


def test_the_everyday_sentences_are_as_many_in_each_language():
    texts = {path.stem: list(lines_of(path)) for path in analysing.EVERYDAY.iterdir()}
    counts = {language: len(lines) for language, lines in texts.items()}
    assert counts == {"de": 50, "en": 50, "fr": 50}
    assert all(line.strip() == line and line for lines in texts.values() for line in lines)


def test_other_texts_have_the_form_of_the_corpus(tiny):
    texts = analysing.other_texts(manifest.read(tiny.folder), "test")
    assert list(texts) == ["shuffled words", "everyday sentences", "everyday sentences in French"]
    (source, target), own = texts["shuffled words"], list(lines_of(tiny.text / "test.de"))
    words, own_words = ([sorted(line.split()) for line in lines] for lines in (source, own))
    assert source != own and words == own_words
    assert target == list(lines_of(tiny.text / "test.en"))
    source, target = texts["everyday sentences in French"]
    assert "Le cheval a sauté par-dessus la clôture." in source
    assert "The horse jumped over the fence." in target


def test_other_texts_are_of_all_test_sets_together_tokenized_and_lowercased_as_the_corpus_is(tiny):
    corpus = replace(
        manifest.read(tiny.folder),
        **{"tests": {"talks": "test", "news": "valid"}, "pooled": True},
        **{"tokenizer": "moses", "lowercased": True},
    )
    texts = analysing.other_texts(corpus, "all")
    source, target = texts["shuffled words"]
    assert target == [*lines_of(tiny.text / "test.en"), *lines_of(tiny.text / "valid.en")]
    assert len(source) == 43 + 30
    source, target = texts["everyday sentences"]
    assert "das pferd sprang über den zaun ." in source
    assert "the horse jumped over the fence ." in target


def test_an_analysis_is_made_again_when_its_inputs_changed_or_it_failed(
    tiny, tmp_path, monkeypatch
):
    made, failed = [], []

    def analysis(command, **_):
        made.append(command)
        (tmp_path / "analysis" / "analysis.json").touch()
        return len(failed)

    monkeypatch.setattr(analysing.processes, "call", analysis)
    monkeypatch.setattr(analysing, "binarize", lambda *_, **__: None)
    results = write_experiment(tmp_path, tiny, seeds=[1])
    checkpoint = tmp_path / "ce-seed1" / "evaluation" / f"test-{KIND}" / "averaged.pt"

    def times(options=()):
        analysing.analyse(results, list(options))
        return len(made)

    assert times() == 1
    (tmp_path / "analysis" / "mine.npz").touch()
    (tmp_path / "results.json").touch()
    checkpoint.touch()
    assert times() == 1
    checkpoint.write_bytes(b"another")
    assert times() == 2
    assert times(["--beam", "2"]) == 3
    failed.append(1)
    with pytest.raises(UserError, match="the analysis failed"):
        times()
    failed.clear()
    assert times() == 5
    assert times() == 5
    assert (tmp_path / "analysis" / "mine.npz").exists()
