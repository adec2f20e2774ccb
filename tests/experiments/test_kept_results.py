from pathlib import Path

import pytest

from el_fairseq.experiments import results as found
from el_fairseq.experiments import table
from el_fairseq.report import study

ROOT = Path(__file__).parents[2]
KEPT = sorted(path.parent for path in ROOT.glob("scripts/results/*/results.json"))


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_kept_table_is_what_the_kept_results_and_translations_give(folder, tmp_path):
    results = found.read(folder)
    tables, comparisons = table.all_tables(results, table.p_values(results, folder))
    remarks = table.notes(results, comparisons)
    table.write_tables(tmp_path, results["title"], tables, remarks)
    for name in ("table.md", "table.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_page_of_the_results_holds_the_tables_of_the_kept_results():
    page = (ROOT / "scripts" / "results" / "README.md").read_text(encoding="utf-8")
    kept = [found.read(folder) for folder in KEPT if folder.name.startswith("home-assistant")]
    for shown in (study.table(kept), study.other_table(kept)):
        assert shown is None or shown.text("github") in page
