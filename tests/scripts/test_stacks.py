"""What ``scripts/stacks.sh`` says of stacks, without making any."""

import os

import pytest
import stacks
from conftest import script


def stack(tests, torch="2.13.0"):
    """What became of a stack."""
    return {"tests": tests, "versions": ["3.11.7", torch, "none"]}


def cells(line):
    return [cell.strip() for cell in line.split("|")][1:-1]


def test_the_table_counts_tests_and_names_what_was_skipped():
    skipped = "SKIPPED [1] tests/a.py:3: no Triton\n1 passed, 1 skipped in 1.00s (0:00:01)\n"
    text, failed = stacks.table(
        {
            "home": stack("2 passed, 1 warning in 3.20s\n"),
            "old": stack(skipped, torch="1.12.1"),
            "new": {"left out": "no Python 3.9 was found"},
        }
    )
    assert not failed
    lines = text.splitlines()
    assert cells(lines[2]) == ["home", "3.11.7", "2.13.0", "none", "2 passed"]
    assert cells(lines[3]) == ["old", "3.11.7", "1.12.1", "none", "1 passed, 1 skipped"]
    assert lines[-2:] == [
        "- old: SKIPPED [1] tests/a.py:3: no Triton",
        "- new: not run: no Python 3.9 was found",
    ]


@pytest.mark.parametrize("tests", ["1 failed, 1 passed in 1s", "no tests ran in 1s", ""])
def test_a_failed_test_or_none_fails_the_comparison(tests):
    assert stacks.table({"home": stack("2 passed in 1s"), "old": stack(tests)})[1]


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
