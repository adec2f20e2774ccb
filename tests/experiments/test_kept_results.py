import shutil

import pytest
from conftest import ROOT

from el_fairseq.experiments import table
from el_fairseq.experiments.results import read

KEPT = sorted(path.parent for path in ROOT.glob("scripts/results/*/results.json"))
PAGE = (ROOT / "scripts" / "results" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_kept_tables_are_what_the_kept_results_give(folder, tmp_path):
    shutil.copy(folder / "results.json", tmp_path)
    results = read(tmp_path)
    table.write_tables(results, table.all_tables(results), table.notes(results))
    for name in ("table.md", "table.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    for loss in results.compared_losses():
        assert table.comparison_table(results, loss).text("github") in PAGE
