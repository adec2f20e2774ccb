"""The program that runs the tests of this folder on a GPU, without one."""

import sys

from conftest import ROOT, run, script, succeed


def test_without_a_gpu_it_says_so_and_ends_with_status_2(tmp_path):
    result = script("scripts/test.sh", "--gpu", env={"CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == 2
    assert "finds no NVIDIA GPU here" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_report_holds_machine_results_and_times(tmp_path):
    test = "tests/gpu/test_gpu.py::test_the_kernel_for_gpus_is_there"
    out = tmp_path / "report.md"
    words = ["--device", "cpu", "--out", out, test, "--benchmark", "--repeats", "1"]
    small = ["--shapes", "64x100", "--projections", "64x8x100"]
    succeed(run([sys.executable, ROOT / "tests" / "gpu" / "report.py", *words, *small]))
    report = out.read_text()
    assert "| torch " in report
    assert "| test_the_kernel_for_gpus_is_there | passed " in report
    assert "| 64 x 100 " in report
