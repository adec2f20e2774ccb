import json

from el_fairseq.common.text import lines_of
from el_fairseq.report import of_runs


def record(criterion, seed, log_end=None):
    name = f"ce-seed{seed}" if criterion == "ce" else f"el{log_end}-seed{seed}"
    return {"run": name, "criterion": criterion, "log_end": log_end, "evaluation": "test-averaged5"}


def test_one_run_of_each_loss_is_analysed_with_the_checkpoint_it_was_scored_with(tmp_path):
    averaged = tmp_path / "ce-seed1" / "evaluation" / "test-averaged5" / "averaged.pt"
    averaged.parent.mkdir(parents=True)
    averaged.touch()
    records = [record("ce", 1), record("ce", 2), record("el", 1, 0.5), record("el", 2, 0.5)]
    assert of_runs.models_of(tmp_path, records) == {
        "CE": averaged,
        "EL": tmp_path / "el0.5-seed1" / "checkpoints" / "checkpoint_best.pt",
    }
    both = [*records, record("el", 1, 0.75)]
    assert list(of_runs.models_of(tmp_path, both)) == ["CE", "EL 0.5", "EL 0.75"]


def test_the_everyday_sentences_are_translations_of_each_other_line_by_line():
    texts = {path.stem: lines_of(path) for path in of_runs.EVERYDAY.iterdir()}
    assert set(texts) == {"de", "en", "fr"}
    assert {len(lines) for lines in texts.values()} == {50}
    assert all(line.strip() == line and line for lines in texts.values() for line in lines)
    rows = [row for row in zip(texts["de"], texts["en"], texts["fr"]) if "Paris" in row[1]]
    assert rows
    assert all("Paris" in line for row in rows for line in row)


def test_other_texts_have_the_form_of_the_corpus(tiny, tmp_path):
    manifest = json.loads((tiny.folder / "manifest.json").read_text())
    texts = of_runs.other_texts(tiny.folder, manifest, tmp_path)
    assert list(texts) == ["shuffled words", "everyday sentences", "everyday sentences in French"]
    source, target, seed = texts["everyday sentences in French"]
    assert "Le cheval a sauté par-dessus la clôture." in lines_of(source)
    assert "The horse jumped over the fence." in lines_of(target)
    assert seed is None
    moses = {**manifest, "tokenizer": "moses", "lowercased": True}
    source, target, _ = of_runs.other_texts(tiny.folder, moses, tmp_path)["everyday sentences"]
    assert "das pferd sprang über den zaun ." in lines_of(source)
    assert "the horse jumped over the fence ." in lines_of(target)
