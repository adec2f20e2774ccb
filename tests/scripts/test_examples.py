"""The examples that the README shows, run."""

import runpy

from conftest import ROOT


def test_the_digits_show_larger_margins_over_seeds(call, capsys):
    example = ROOT / "scripts" / "examples" / "digits.py"
    call(lambda: runpy.run_path(str(example), run_name="__main__"), "--seeds", 4, "--epochs", 10)
    shown = capsys.readouterr().out
    assert "| accuracy, %" in shown
    assert "Margin is higher with EL, by more than seeds differ." in shown
    assert "Energy is lower with EL, by more than seeds differ." in shown
