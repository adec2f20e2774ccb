import json
import shutil

import pytest
from conftest import script, succeed
from made import EXPERIMENT

from el_fairseq.experiments import measure
from el_fairseq.runs.experiment import read_experiment


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "tiny.toml").write_text(EXPERIMENT.replace("last = 10", "last = 0"))
    return read_experiment(tmp_path / "tiny.toml")


def test_a_run_gets_the_scores_of_a_beam_of_1_and_its_calibration(
    tiny, experiment, tmp_path, monkeypatch
):
    checkpoints = tmp_path / "runs" / "el0.5-seed1" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(tiny.el, checkpoints / "checkpoint_best.pt")

    def evaluate(folder, data, last, test, options, name):
        assert (last, options, name) == (0, ["--beam", "1"], "beam1")
        (folder / "scores.json").write_text(json.dumps({"bleu": 29.0}))
        return folder

    monkeypatch.setattr(measure, "evaluate", evaluate)
    record = {"run": "el0.5-seed1", "scores": {"test": {"best": {"bleu": 30.0}}}}
    results = {"data": str(tiny.folder), "tests": ["test"], "checkpoints": ["best"]}
    found = measure.measure(tmp_path / "runs", results, record, experiment)
    assert found["beams"] == {"test": {"1": {"bleu": 29.0}, "5": {"bleu": 30.0}}}
    before, after = found["calibration"]["before"], found["calibration"]["after"]
    assert 0 < before["expected_calibration_error"] < 1 and found["calibration"]["temperature"] > 0
    assert after["nll_nats"] != before["nll_nats"]
    assert json.loads(json.dumps(found)) == found


def test_with_no_finished_run_it_says_what_to_run(experiment, tmp_path):
    (tmp_path / "runs").mkdir()
    call = [experiment.path, "--runs", tmp_path / "runs"]
    result = script("scripts/measure.sh", *call)
    assert result.returncode == 1 and "no run of tiny is finished" in result.stderr
    assert "bash scripts/measure.sh" in succeed(script("scripts/measure.sh", "--help")).stdout
