"""What ``scripts/stacks.sh`` says of stacks, without making any."""

import json
import os

import pytest
import stack_table
from conftest import script


def leave(folder, name, tests, losses=None, torch="2.13.0"):
    """The files that the script leaves of a stack."""
    here = folder / name
    here.mkdir()
    (here / "tests.txt").write_text(tests)
    if losses is not None:
        versions = {"python": "3.11.7", "torch": torch, "fairseq": None}
        found = {"versions": versions, "losses": losses}
        (here / "losses.json").write_text("a line of somebody else\n" + json.dumps(found))


def table(folder, *names):
    with pytest.raises(SystemExit) as end:
        stack_table.main(folder, *names)
    return end.value.code


def test_the_table_compares_losses_and_names_what_was_skipped(tmp_path, capsys):
    leave(tmp_path, "home", "2 passed, 1 warning in 3.20s\n", {"CE": [1.0, 0.5], "EL": [0.5, 0.25]})
    skipped = "SKIPPED [1] tests/a.py:3: no Triton\n1 passed, 1 skipped in 1.00s (0:00:01)\n"
    leave(tmp_path, "old", skipped, {"CE": [1.0, 0.50005]}, torch="1.12.1")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "skipped").write_text("no Python 3.9 was found\n")
    assert table(tmp_path, "home", "old", "new") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in lines[2].split("|")][1:-1] == [
        *("home", "3.11.7", "2.13.0", "none", "2 passed", "compared with")
    ]
    assert [cell.strip() for cell in lines[3].split("|")][1:-1] == [
        *("old", "3.11.7", "1.12.1", "none", "1 passed, 1 skipped", "5.0e-05")
    ]
    assert lines[-2:] == [
        "- old: SKIPPED [1] tests/a.py:3: no Triton",
        "- new: not run: no Python 3.9 was found",
    ]


@pytest.mark.parametrize(
    ("tests", "losses"),
    [
        ("1 failed, 1 passed in 1s", [1.0, 0.5]),
        ("no tests ran in 1s", [1.0, 0.5]),
        ("2 passed in 1s", [1.0, 0.5002]),
        ("2 passed in 1s", [1.0, float("nan")]),
        ("2 passed in 1s", [1.0]),
    ],
)
def test_a_failed_test_or_another_loss_fails_the_comparison(tmp_path, tests, losses):
    leave(tmp_path, "home", "2 passed in 1s", {"CE": [1.0, 0.5]})
    leave(tmp_path, "old", tests, {"CE": losses})
    assert table(tmp_path, "home", "old") == 1


def test_a_stack_whose_training_failed_fails_the_comparison(tmp_path):
    leave(tmp_path, "home", "2 passed in 1s")
    assert table(tmp_path, "home") == 1


def test_a_stack_whose_python_is_missing_is_left_out_with_the_reason(tmp_path):
    for program in ("python3.8", "uv"):
        (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    result = script(
        *("scripts/stacks.sh", "--dir", tmp_path / "stacks", "stock"),
        env={"PYENV_ROOT": "/none", "PATH": path},
    )
    assert result.returncode == 0
    assert "- stock: not run: no Python 3.8 was found" in result.stdout
    assert (tmp_path / "stacks" / "stacks.md").read_text() == result.stdout


def test_an_unknown_stack_is_named():
    result = script("scripts/stacks.sh", "python2.7")
    assert result.returncode == 2
    assert "unexpected argument 'python2.7'" in result.stderr
