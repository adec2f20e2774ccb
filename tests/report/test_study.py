import math

import pytest

from el_fairseq.report import study


def record(loss, seed, bleu):
    return {
        "loss": loss,
        "seed": seed,
        "scores": {"test": {"averaged5": {"bleu": bleu, "chrf": bleu + 20, "ter": 50.0}}},
        "beams": {"test": {"1": {"bleu": bleu - 1}, "5": {"bleu": bleu}}},
        "calibration": {
            "temperature": 1.1,
            "before": {"expected_calibration_error": 0.05, "nll_nats": 2 * math.log(2)},
            "after": {"expected_calibration_error": 0.01, "nll_nats": math.log(2)},
        },
        "valid_nll": 2.5,
        "valid_accuracy": 68.0,
    }


@pytest.fixture
def results():
    bleu = {"CE": (40.0, 41.0, 42.0), "EL": (41.0, 41.5, 43.5)}
    return {
        "experiment": "a-corpus",
        "losses": ["CE", "EL", "EL 1"],
        "title": "A corpus",
        "source": "de",
        "target": "en",
        "tests": ["test"],
        "checkpoints": ["averaged5"],
        "runs": [
            record(loss, seed, value)
            for loss, values in bleu.items()
            for seed, value in enumerate(values, 1)
        ],
    }


def test_a_quantity_stands_with_both_losses_and_with_what_separates_them(results):
    table = study.table([results])
    assert table.columns == ["", "De-En: CE", "EL", "difference"]
    # Differences 1, 0.5 and 1.5: mean 1, deviation 0.5, 4.303 * 0.5 / sqrt(3).
    assert table.rows[0] == ["BLEU", "41.00 ± 1.00", "42.00 ± 1.32", "+1.00 [-0.24, +2.24]"]
    assert table.rows[4][0] == "validation accuracy, %"
    same = {row[0]: row[1:] for row in table.rows if row[3] in ("+0.00", "+0.000")}
    assert same["validation nll, bits"] == [*["2.500 ± 0.000"] * 2, "+0.000"]
    assert same["test nll, bits"][0] == "2.000 ± 0.000"
    assert same["test nll after one temperature"][0] == "1.000 ± 0.000"
    assert same["calibration error, %"][0] == "5.00 ± 0.00"


def test_experiments_stand_side_by_side_and_a_quantity_that_one_lacks_is_left_open(results):
    best = {**results, "experiment": "other", "source": "fr", "checkpoints": ["averaged5", "best"]}
    best["runs"] = [
        {**one, "scores": {"test": {**one["scores"]["test"], "best": {"bleu": 30.0}}}}
        for one in results["runs"]
    ]
    table = study.table([results, best])
    assert table.columns[4] == "Fr-En: CE"
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["BLEU"][:3] == rows["BLEU"][3:]
    assert rows["BLEU, best"] == ["", "", "", *["30.00 ± 0.00"] * 2, "+0.00"]


def test_seeds_that_only_one_loss_has_are_not_compared(results):
    del results["runs"][2], results["runs"][-2]
    assert study.table([results]).rows[0][1:] == ["40.00", "41.00", "+1.00"]
    del results["runs"][0]
    assert study.compared([results]) == []


def test_comparisons_of_fewer_seeds_stand_in_a_line_each(results):
    assert study.other_table([results]) is None
    more = [{**one, "loss": "EL 1"} for one in results["runs"][3:5]]
    more = {**results, "runs": [*results["runs"], *more]}
    assert study.table([more]).columns == study.table([results]).columns
    # Two differences, 1 and 0.5: 12.706 * 0.3536 / sqrt(2).
    (row,) = study.other_table([more]).rows
    assert row[:5] == ["De-En: EL 1", "2", "40.50 ± 0.71", "41.25 ± 0.35", "+0.75 [-2.43, +3.93]"]
    assert row[5:] == ["+0.00", "5.00 ± 0.00", "5.00 ± 0.00"]


def test_the_picture_is_a_png_that_grows_with_the_comparisons(results):
    def height(image):
        assert image.startswith(b"\x89PNG")
        return int.from_bytes(image[20:24], "big")

    far = [{**one, "loss": "EL 1"} for one in results["runs"][3:]]
    for one in far:
        one["scores"] = {"test": {"averaged5": {"bleu": 20.0, "chrf": 40.0, "ter": 50.0}}}
    more = {**results, "runs": [*results["runs"], *far]}
    assert height(study.picture([more])) > height(study.picture([results]))


def test_two_corpora_of_one_pair_of_languages_are_told_apart(results):
    other = {**results, "experiment": "other"}
    table = study.table([results, other])
    assert [name for name in table.columns if ": " in name] == ["a-corpus: CE", "other: CE"]
