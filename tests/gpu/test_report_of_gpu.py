"""The program that runs the tests of this folder on a GPU, without one."""

import sys

import pytest
from conftest import ROOT, run, script
from report import BENCHMARKS

from el_fairseq.benchmarks import loss as benchmark


def test_without_a_gpu_it_says_so_and_ends_with_status_2(tmp_path):
    result = script("scripts/test.sh", "--gpu", env={"CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == 2
    assert "finds no NVIDIA GPU here" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_benchmarks_take_their_options(call):
    for words in BENCHMARKS:
        with pytest.raises(SystemExit, match=r"^0$"):
            call(benchmark.main, "--device", "cuda", *words.split(), "--help")


def test_the_report_holds_machine_tests_and_benchmark(tmp_path):
    passing, failing = tmp_path / "test_passing.py", tmp_path / "test_failing.py"
    passing.write_text("def test_right():\n    pass\n")
    failing.write_text("def test_wrong():\n    assert 1 == 2\ndef test_left_out():\n    assert 0")
    command = [sys.executable, ROOT / "tests" / "gpu" / "report.py", "--device", "cpu"]
    out = tmp_path / "report.md"
    result = run(
        [*command, "--out", out, "--benchmark=--help", "-k", "not left_out", passing, failing]
    )
    assert result.returncode == 1, result.stderr
    report = out.read_text()
    assert "PyTorch version" in report
    assert "PASSED" in report and "::test_right" in report
    assert "::test_wrong" in report and "assert 1 == 2" in report
    assert "::test_left_out" not in report
    assert "usage: " in report  # what the benchmark said
