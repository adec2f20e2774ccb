"""What ``scripts/stacks.sh`` says of stacks, without making any."""

import os

import pytest
import stacks
from conftest import script


def stack(tests, losses=None, torch="2.13.0"):
    """What became of a stack."""
    versions = {"python": "3.11.7", "torch": torch, "fairseq": None}
    return {"tests": tests} | ({} if losses is None else {"versions": versions, "losses": losses})


def cells(line):
    return [cell.strip() for cell in line.split("|")][1:-1]


def test_the_table_compares_losses_and_names_what_was_skipped():
    skipped = "SKIPPED [1] tests/a.py:3: no Triton\n1 passed, 1 skipped in 1.00s (0:00:01)\n"
    text, failed = stacks.table(
        {
            "home": stack("2 passed, 1 warning in 3.20s\n", {"CE": [1.0, 0.5], "EL": [0.5, 0.2]}),
            "old": stack(skipped, {"CE": [1.0, 0.50005]}, torch="1.12.1"),
            "new": {"left out": "no Python 3.9 was found"},
        }
    )
    assert not failed
    lines = text.splitlines()
    assert cells(lines[2]) == ["home", "3.11.7", "2.13.0", "none", "2 passed", "compared with"]
    assert cells(lines[3]) == ["old", "3.11.7", "1.12.1", "none", "1 passed, 1 skipped", "5.0e-05"]
    assert lines[-2:] == [
        "- old: SKIPPED [1] tests/a.py:3: no Triton",
        "- new: not run: no Python 3.9 was found",
    ]


@pytest.mark.parametrize(
    ("tests", "losses"),
    [
        ("1 failed, 1 passed in 1s", [1.0, 0.5]),
        ("no tests ran in 1s", [1.0, 0.5]),
        ("", [1.0, 0.5]),
        ("2 passed in 1s", [1.0, 0.5002]),
        ("2 passed in 1s", [1.0, float("nan")]),
        ("2 passed in 1s", [1.0]),
        ("2 passed in 1s", None),
    ],
)
def test_a_failed_test_or_training_or_another_loss_fails_the_comparison(tests, losses):
    home = stack("2 passed in 1s", {"CE": [1.0, 0.5]})
    assert stacks.table({"home": home, "old": stack(tests, losses and {"CE": losses})})[1]


def test_a_stack_whose_python_is_missing_is_left_out_with_the_reason(tmp_path):
    for program in ("python3.8", "uv"):
        (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    result = script(
        *("scripts/stacks.sh", "--dir", tmp_path / "stacks", "stock"),
        env={"PYENV_ROOT": "/none", "PATH": path},
    )
    assert result.returncode == 0, result.stderr
    assert "- stock: not run: no Python 3.8 was found" in result.stdout
    assert (tmp_path / "stacks" / "stacks.md").read_text() == result.stdout


def test_an_unknown_stack_is_named():
    result = script("scripts/stacks.sh", "python2.7")
    assert result.returncode == 2
    assert "there is no stack 'python2.7', expected some of python3.11," in result.stderr
