import json
import shutil

from made import EXPERIMENT, experiment_of, results_of

from el_fairseq.experiments import measure


def test_a_run_gets_scores_of_a_beam_of_1_and_at_the_fitted_temperature_and_its_calibration(
    tiny, tmp_path, monkeypatch
):
    checkpoints = tmp_path / "runs" / "el-seed1" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(tiny.el, checkpoints / "checkpoint_best.pt")
    asked = {}

    def evaluate(folder, last, test, data, options, name):
        asked[name] = options
        (folder / "scores.json").write_text(json.dumps({"bleu": 29.0 + len(asked)}))
        return folder

    monkeypatch.setattr(measure, "evaluate", evaluate)
    record = {"run": "el-seed1", "loss": "EL", "seed": 1}
    record["scores"] = {"test": {"best": {"bleu": 30.0}}}
    results = results_of([record], tmp_path / "runs", data=str(tiny.folder), checkpoints=["best"])
    experiment = experiment_of(tmp_path, EXPERIMENT.replace("last = 10", "last = 0"))
    found = measure.measure(results, record, experiment)
    assert found["beams"] == {"test": {"1": {"bleu": 30.0}, "5": {"bleu": 30.0}}}
    assert found["tempered"] == {"test": {"bleu": 31.0}}
    temperature = found["calibration"]["temperature"]
    assert asked == {"beam1": ["--beam", "1"], "tempered": ["--temperature", f"{temperature:.3f}"]}
    before, after = found["calibration"]["before"], found["calibration"]["after"]
    assert 0 < before["expected_calibration_error"] < 1 and temperature > 0
    assert after["nll_nats"] != before["nll_nats"]
    assert json.loads(json.dumps(found)) == found
