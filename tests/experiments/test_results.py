import json

import pytest
from made import (
    EXPERIMENT,
    GOOD,
    LOSSES,
    REFERENCES,
    experiment_of,
    record,
    results_of,
    write_translations,
)

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import results, table


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    manifest = {"source": "de", "target": "en", "tokenizer": None, "pairs": {}, "subwords": None}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def finish_run(folder, data, loss, seed, bleu=30.0, **changes):
    """A run's folder as train.sh and evaluate.sh leave it, without checkpoints."""
    run = folder / f"{loss.lower()}-seed{seed}"
    for kind in ("averaged10", "best"):
        evaluation = run / "evaluation" / f"test-{kind}"
        evaluation.mkdir(parents=True)
        (evaluation / "scores.json").write_text(json.dumps({"bleu": bleu}))
        (evaluation / "hypotheses.en").write_text(f"the cat number {bleu} sat on the mat\n")
        (evaluation / "references.en").write_text("the cat number 31.0 sat on the mat\n")
    asked = {
        "format": 3,
        "experiment": "small",
        "corpus": "sha256:12",
        "device": "cpu",
        "gpus": 0,
        "loss": loss,
        "seed": seed,
        "data": str(data),
        "options": ["--lr", "1", *LOSSES[loss], "--report-accuracy", "--seed", str(seed)],
        "command": ["bash", "scripts/train.sh"],
        **changes,
    }
    (run / "run.json").write_text(json.dumps(asked))
    trained = {"updates": 5, "minutes": 1.0, "valid_nll": 2.0, "valid_accuracy": 50.0}
    (run / "training.json").write_text(json.dumps(trained))
    return run


def test_results_hold_a_record_for_each_run_that_is_finished(corpus, tmp_path):
    runs = tmp_path / "runs"
    finish_run(runs, corpus, "EL", 1, 31.0)
    finish_run(runs, corpus, "CE", 1)
    measures = {"beams": {"test": {"1": {"bleu": 29.0}}}, "calibration": {"temperature": 1.1}}
    (runs / "ce-seed1" / "measures.json").write_text(json.dumps(measures))
    not_scored = finish_run(runs, corpus, "EL", 2)
    (not_scored / "evaluation" / "test-best" / "scores.json").unlink()
    not_trained = finish_run(runs, corpus, "CE", 2)
    (not_trained / "training.json").unlink()
    gathered = results.gather(experiment_of(tmp_path), runs)
    assert gathered == results.read(runs)
    assert [one["run"] for one in gathered["runs"]] == ["ce-seed1", "el-seed1"]
    assert gathered["runs"][1]["scores"]["test"] == {
        "averaged10": {"bleu": 31.0},
        "best": {"bleu": 31.0},
    }
    assert {name: gathered["runs"][0][name] for name in measures} == measures
    assert "calibration" not in gathered["runs"][1]
    assert 0 < gathered.p_value("EL", 1) <= 1
    assert gathered["options"] == ["--lr", "1"]
    assert (gathered["experiment"], gathered["title"]) == ("small", "Small")


@pytest.mark.parametrize(
    ("content", "reason"),
    [("[{", "is damaged"), ("{}", "is of format 1"), ('{"format": 2}', "is of format 2")],
)
def test_results_that_are_damaged_or_of_another_version_are_named(tmp_path, content, reason):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=rf"results\.json {reason}.*run"):
        results.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"corpus": "sha256:34"}, "ce-seed1 was trained with corpus 'sha256:12', not 'sha256:34'"),
        ({"experiment": "other"}, "el-seed1 is a run of the experiment other, expected small"),
        ({"format": 2}, "run.json is of format 2, expected 3: .* delete"),
    ],
)
def test_runs_that_do_not_compare_are_not_put_into_one_table(corpus, tmp_path, changes, reason):
    finish_run(tmp_path / "runs", corpus, "CE", 1)
    finish_run(tmp_path / "runs", corpus, "EL", 1, **changes)
    with pytest.raises(UserError, match=reason):
        results.gather(experiment_of(tmp_path), tmp_path / "runs")


def test_a_test_set_that_the_corpus_lacks_is_named(corpus, tmp_path):
    experiment = experiment_of(tmp_path, f'{EXPERIMENT}corpus.tests = ["news"]\n')
    with pytest.raises(UserError, match=r"corpus\.tests names news, expected some of test"):
        results.tests_of(experiment, corpus)


@pytest.mark.parametrize("may_be_kept", [True, False])
def test_an_export_is_small_names_no_paths_and_holds_all_that_a_table_needs(tmp_path, may_be_kept):
    runs, p_values = [record("CE", 1, 30.0), record("EL", 1, 31.0)], {"EL": {"test": {"1": 0.25}}}
    changes = {"redistributable": may_be_kept, "p_values": p_values}
    made = results_of(runs, tmp_path / "runs", data="/home/somebody", **changes)
    write_translations(made)
    (tmp_path / "runs" / "el-seed1" / "train.log").touch()
    kept = results.export(made, tmp_path / "kept")
    assert kept["data"] is None and kept["p_values"] == p_values
    assert kept["runs"][1].pop("curves")["updates"] == []
    assert [{**one, "command": 0} for one in kept["runs"]] == [
        {**one, "command": 0} for one in made["runs"]
    ]
    assert kept.has_texts() == may_be_kept
    if may_be_kept:
        assert kept.references() == REFERENCES
    kinds = {path.parent.name for path in (tmp_path / "kept").rglob("hypotheses.*")}
    assert kinds == {"test-averaged10"}
    assert kept.hypotheses("el-seed1") == GOOD
    assert table.all_tables(kept)[-1].rows[0][-1] == "0.250"


def test_an_export_adds_to_what_was_kept_before(tmp_path):
    def export(name, *runs, **changes):
        made = results_of([record(*run) for run in runs], tmp_path / name, **changes)
        write_translations(made)
        return results.export(made, tmp_path / "kept")

    p_values = {"EL": {"test": {"1": 0.5}}}
    export("first", ("CE", 1, 30.0))
    export("both", ("CE", 1, 30.0), ("EL", 1, 31.0), p_values=p_values)
    kept = export("later", ("EL", 2, 33.0))
    assert [one["run"] for one in kept["runs"]] == ["ce-seed1", "el-seed1", "el-seed2"]
    assert kept["p_values"] == p_values
    with pytest.raises(UserError, match="made with options '', not '--lr 2'; name another"):
        export("other", ("CE", 1, 30.0), options=["--lr", "2"])
