import math
import statistics

import numpy as np
import pytest
import sacrebleu
from made import BAD, GOOD, REFERENCES, record, results_of
from scipy.stats import ttest_1samp, ttest_rel

from el_fairseq.experiments import significance
from el_fairseq.experiments import table as comparison

CE = [record("CE", seed, bleu) for seed, bleu in ((1, 35.0), (2, 34.0), (3, 35.5))]
EL = [record("EL", seed, bleu) for seed, bleu in ((1, 35.5), (2, 35.0), (3, 35.75))]


NLL = {"nll_nats": math.log(2), "expected_calibration_error": 0.05}
MEASURED = {
    "calibration": {"temperature": 1.1, "before": NLL, "after": NLL},
    "beams": {"test": {"5": {"bleu": 35.0}, "1": {"bleu": 34.0}}},
    "tempered": {"test": {"bleu": 35.5}},
}


def columns_of(table):
    return [dict(zip(table.columns, row)) for row in table.rows]


def test_means_and_deviations_stand_beside_published_figures_of_the_compared_checkpoints():
    rows = columns_of(comparison.scores_table(results_of([*CE, *EL, record("EL 0.75", 1, 35.0)])))
    assert [row["loss"] for row in rows] == ["CE", "CE", "EL", "EL", "EL 0.75", "EL 0.75"]
    assert [row["checkpoints"] for row in rows] == ["last 10", "best"] * 3
    assert rows[4]["BLEU"] == "35.00", "one seed has no deviation"
    deviation = statistics.stdev([34.0, 35.0, 35.5])
    assert rows[0]["BLEU"] == f"34.83 ± {deviation:.2f}"
    assert rows[0]["tokenized BLEU"] == f"35.83 ± {deviation:.2f}"
    assert rows[0]["seeds"] == "3"
    published = [row["the paper's tokenized BLEU"] for row in rows]
    assert published == ["35.09 ± 0.07", "", "35.50 ± 0.11", "", "", ""]


def test_what_was_measured_is_tabled_for_the_runs_that_have_it():
    runs = [*CE, *({**run, **MEASURED} for run in EL)]
    _, _, table, _ = comparison.all_tables(results_of(runs, losses=["CE", "EL"]))
    (el,) = columns_of(table)
    assert (el["loss"], el["nll, bits"]) == ("EL", "1.000 ± 0.000")
    assert list(el)[2:5] == ["BLEU, beam 1", "BLEU, beam 5", "BLEU at temperature"]


def test_differences_pair_the_runs_of_one_seed():
    p_values = {"EL": {"test": {"1": 0.5, "2": 0.25}}}
    results = results_of([*CE, *EL, record("EL", 9, 50.0)], p_values=p_values)
    table = comparison.differences_table(results, "EL", "test")
    rows = {row[0]: dict(zip(table.columns, row)) for row in table.rows}
    assert list(rows) == [
        *("seed 1", "seed 2", "seed 3"),
        *("mean", "95 % interval", "p over seeds", "detectable"),
    ]
    assert [row["BLEU"] for row in rows.values()][:4] == ["+0.50", "+1.00", "+0.25", "+0.58"]
    p_values = [row["p, bootstrap (BLEU)"] for row in rows.values()]
    assert p_values == ["0.500", "0.250", *[""] * 5], "that of seed 3 was not kept"
    expected = ttest_rel([35.5, 35.0, 35.75], [35.0, 34.0, 35.5])
    assert rows["p over seeds"]["BLEU"] == f"{expected.pvalue:.3f}"
    low, high = expected.confidence_interval(0.95)
    assert rows["95 % interval"]["BLEU"] == f"{low:+.2f} to {high:+.2f}"
    assert rows["95 % interval"]["chrF"] == "", "no spread, no interval"


def test_a_comparison_has_a_row_for_each_quantity_over_the_seeds_of_both_that_all_of_them_have():
    # The first seed of CE and the last of EL are neither measured nor compared.
    runs = [CE[0], *({**run, **MEASURED} for run in (*CE[1:], *EL[1:])), record("EL", 9, 50.0)]
    table = comparison.comparison_table(results_of(runs), "EL")
    assert table.title == "Made up, 2 seeds" and table.columns == ["", "CE", "EL", "difference"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["BLEU"] == ["34.75 ± 1.06", "35.38 ± 0.53", "+0.62 [-4.14, +5.39]"]
    assert rows["valid nll, bits"][2] == "+0.000"
    assert {"BLEU, beam 1", "BLEU, beam 5", "BLEU at temperature", "temperature"} <= rows.keys()


def test_the_detectable_difference_is_found_in_80_percent_of_experiments():
    draw = np.random.default_rng(1)
    for seeds in (3, 5):
        shift = significance.detectable_difference(0.5, seeds)
        experiments = draw.normal(shift, 0.5, (20000, seeds))
        found_share = (ttest_1samp(experiments, 0, axis=1).pvalue < 0.05).mean()
        assert math.isclose(found_share, 0.8, abs_tol=0.01)
    assert significance.over_seeds([0.5, 0.5]) is None, "no spread, no test"


def test_the_bootstrap_tells_systems_apart_and_is_repeatable():
    def p(*texts):
        return significance.bootstrap_p(*texts, REFERENCES, "en")

    assert sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score > 80
    assert p(BAD, GOOD) < 0.01
    assert p(BAD, GOOD) == p(BAD, GOOD)
    assert p(GOOD, GOOD) == 1
    odd = [GOOD[n] if n % 8 == 0 else REFERENCES[n] for n in range(200)]
    even = [GOOD[n] if n % 8 == 4 else REFERENCES[n] for n in range(200)]
    assert p(odd, even) > 0.2


@pytest.mark.parametrize(
    ("lengths", "count", "shown"),
    [
        ([7, 2, 6, 9], 3, ["1", "3", "4"]),
        ([7, 2, 6, 9], 1, ["1"]),
        ([1, 3, 2, 3], 2, ["2", "4"]),
        ([1, 3], 9, ["1", "2"]),
    ],
)
def test_the_translations_that_differ_most_are_shown_but_for_sentences_of_few_words(
    tmp_path, monkeypatch, lengths, count, shown
):
    results = results_of(CE + EL, tmp_path)
    texts = [" ".join(["word"] * length) for length in lengths]
    monkeypatch.setattr(results, "references", lambda: texts)
    of_runs = {"el-seed1": ["", *texts[1:]]}
    monkeypatch.setattr(results, "hypotheses", lambda run: of_runs.get(run, texts))
    table = comparison.differing(results, count)
    assert sorted({row[0] for row in table.rows}) == shown
    first = 0 if "1" in shown else 1
    assert table.rows[0][1:] == ["reference", "", texts[first]]
    assert table.rows[2][1:] == ["EL", *(["0", ""] if first == 0 else ["100", texts[1]])]
