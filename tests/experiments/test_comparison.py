import csv
import statistics

import pytest
import sacrebleu
from scipy.stats import ttest_rel

from el_fairseq.experiments import comparison

REFERENCES = [f"the cat number {n} sat on mat {n % 7} of the house" for n in range(200)]
GOOD = [line if n % 4 else line.replace("cat", "dog") for n, line in enumerate(REFERENCES)]
BAD = [line.replace("sat on", "stood at") if n % 3 else line for n, line in enumerate(REFERENCES)]


def record(criterion, seed, bleu, log_end=0.5, best=0.0):
    scores = {"tokenized_bleu": bleu + 1, "bleu": bleu, "chrf": 60.0, "ter": 40.0}
    signatures = {f"{name}_signature": f"nrefs:1|{name}" for name in ("bleu", "chrf", "ter")}
    return {
        "run": f"{criterion}-seed{seed}",
        "loss": "CE" if criterion == "ce" else f"EL, log end {log_end}",
        "log_end": None if criterion == "ce" else log_end,
        "seed": seed,
        "averaged": 10,
        "best": {name: value + best for name, value in scores.items()},
        **scores,
        **signatures,
    }


CE = [record("ce", seed, bleu) for seed, bleu in ((2, 34.0), (1, 35.0), (3, 35.5))]
EL = [record("el", seed, bleu, best=0.25) for seed, bleu in ((1, 35.5), (2, 35.0), (3, 35.75))]


def read(one):
    return (GOOD if "el" in one["run"] else BAD), REFERENCES


def test_means_and_deviations_stand_beside_the_papers_figures():
    table = comparison.scores_table(CE + EL, comparison.PAPER["iwslt14-de-en"])
    rows = {tuple(row[:2]): dict(zip(table.columns, row)) for row in table.rows}
    assert [row[0] for row in table.rows] == ["CE", "CE", "EL, log end 0.5", "EL, log end 0.5"]
    ce = rows["CE", "last 10"]
    deviation = statistics.stdev([34.0, 35.0, 35.5])
    assert ce["seeds"] == "3"
    assert ce["tokenized BLEU"] == f"35.83 ± {deviation:.2f}"
    assert ce["sacreBLEU"] == f"34.83 ± {deviation:.2f}"
    assert ce["the paper's"] == "35.09 ± 0.07"
    assert rows["EL, log end 0.5", "last 10"]["the paper's"] == "35.50 ± 0.11"
    assert rows["EL, log end 0.5", "best"]["the paper's"] == ""
    assert rows["EL, log end 0.5", "best"]["TER"] == "40.25 ± 0.00"


def test_a_log_end_that_is_not_in_the_paper_has_no_figure_beside_it():
    other = [record("el", 1, 35.0, log_end=0.75)]
    table = comparison.scores_table(CE + other, comparison.PAPER["iwslt17-fr-en"])
    column = table.columns.index("the paper's")
    assert [row[column] for row in table.rows] == ["37.10 ± 0.06", "", "", ""]


def test_one_seed_has_a_mean_and_no_deviation():
    assert comparison.mean_and_deviation([3.14159]) == "3.14"


def test_differences_pair_the_runs_of_one_seed():
    (table,) = comparison.differences_tables([*CE, *EL, record("el", 9, 50.0)], read)
    assert [row[0] for row in table.rows] == ["seed 1", "seed 2", "seed 3", "mean", "p over seeds"]
    assert [row[2] for row in table.rows[:4]] == ["+0.50", "+1.00", "+0.25", "+0.58"]
    expected = ttest_rel([35.5, 35.0, 35.75], [35.0, 34.0, 35.5]).pvalue
    assert table.rows[4][2] == f"{expected:.3f}"


def test_without_ce_there_is_nothing_to_compare():
    assert comparison.differences_tables(EL, read) == []


def test_the_bootstrap_tells_systems_apart_and_is_repeatable():
    assert sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score > 80
    p = comparison.bootstrap_p(BAD, GOOD, REFERENCES)
    assert p < 0.01
    assert comparison.bootstrap_p(BAD, GOOD, REFERENCES) == p


def test_the_bootstrap_does_not_see_a_difference_where_there_is_none():
    assert comparison.bootstrap_p(GOOD, GOOD, REFERENCES) == 1
    odd = [GOOD[n] if n % 8 == 0 else REFERENCES[n] for n in range(200)]
    even = [GOOD[n] if n % 8 == 4 else REFERENCES[n] for n in range(200)]
    assert comparison.bootstrap_p(odd, even, REFERENCES) > 0.2


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5]])
def test_no_test_over_seeds_without_a_deviation(values):
    assert comparison.seeds_p(values) is None


def test_the_table_says_what_was_scored():
    lowercased = "\n".join(comparison.notes(CE, lowercased=True))
    assert "the corpus is lowercased, and so are both" in lowercased
    assert "bleu: nrefs:1|bleu" in lowercased
    assert "cased." in "\n".join(comparison.notes(CE, lowercased=False))


def test_csv_and_markdown_hold_the_cells_of_the_table():
    table = comparison.scores_table(CE + EL, {})
    rows = list(csv.reader(comparison.comma_separated([table, table]).splitlines()))
    assert rows[0] == table.columns and rows[1 : len(table.rows) + 1] == table.rows
    assert rows[len(table.rows) + 1] == []
    assert "| CE" in table.text("github") and "35.83 ± 0.76" in table.text("github")
