import json

import pytest
from conftest import ROOT

from el_fairseq.common.cli import UserError
from el_fairseq.report import pictures

KEPT = ROOT / "scripts" / "results"


def test_the_picture_of_the_loss_is_drawn(call, tmp_path):
    call(pictures.main, "formula", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_the_study_grows_with_the_comparisons():
    folders, heights = [KEPT / "home-assistant-fr-en", KEPT / "home-assistant-de-en"], []
    for some in (folders[:1], 2 * folders[:1], folders):  # one comparison, two, four
        heights.append(int.from_bytes(pictures.study(some)[20:24], "big"))
    assert heights[0] < heights[1] < heights[2]


def test_results_without_a_seed_of_two_losses_are_refused(call, tmp_path):
    results = json.loads((KEPT / "home-assistant-fr-en" / "results.json").read_text("utf-8"))
    results["runs"] = results["runs"][1:6]  # CE but for seed 1, and EL with seed 1
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match="no folder holds runs of two losses with the same seed"):
        call(pictures.main, "study", tmp_path / "none.png", tmp_path)
