"""The examples that the README shows, run."""

import runpy
import sys

from conftest import ROOT


def test_the_digits_show_larger_margins_over_seeds(monkeypatch, capsys):
    example = ROOT / "scripts" / "examples" / "digits.py"
    monkeypatch.setattr(sys, "argv", [str(example), "--seeds", "4", "--epochs", "10"])
    runpy.run_path(str(example), run_name="__main__")
    shown = capsys.readouterr().out
    assert "| accuracy, %" in shown
    assert "Margin is higher with EL, by more than seeds differ." in shown
    assert "Energy is lower with EL, by more than seeds differ." in shown
