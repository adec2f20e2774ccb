import pytest
from conftest import ROOT

from el_fairseq.experiments import results as experiment_results
from el_fairseq.experiments import table

KEPT = sorted(path.parent for path in ROOT.glob("scripts/results/*/results.json"))
PAGE = (ROOT / "scripts" / "results" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_kept_tables_are_what_the_kept_results_and_translations_give(folder, tmp_path):
    results = experiment_results.read(folder)
    tables, comparisons = table.all_tables(results, table.p_values(results, folder))
    remarks = table.notes(results, comparisons)
    table.write_tables(tmp_path, results["title"], tables, remarks)
    for name in ("table.md", "table.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    for loss in table.compared_losses(results):
        assert table.comparison_table(results, loss).text("github") in PAGE
