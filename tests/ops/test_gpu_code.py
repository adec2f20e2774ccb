"""The machine code of the kernel for GPUs, compiled for one that is not here and counted."""

import json
import sys

import pytest
from conftest import ROOT, run, succeed

pytest.importorskip("triton", reason="Triton is not installed: its wheels are for Linux on x86-64")

CASES = {  # dtype, classes (fairseq's are a multiple of 8), smoothed, bonus start, capability
    "half precision": ("fp16", 10152, True, False, 90),
    "half precision, not smoothed": ("fp16", 10152, False, False, 90),
    "single precision": ("fp32", 10152, True, False, 90),
    "single precision, not smoothed": ("fp32", 10152, False, False, 90),
    "with a start of the bonus": ("bf16", 10152, True, True, 90),
    "held": ("fp32", 8192, True, False, 90),
    "of an older GPU": ("bf16", 8192, True, True, 80),
}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    program = ROOT / "tests" / "ops" / "compile_for_gpus.py"
    words = [sys.executable, program, json.dumps(list(CASES.values()))]
    said = succeed(run(words, cwd=folder, env={"TRITON_CACHE_DIR": str(folder)})).stdout
    return dict(zip(CASES, map(json.loads, said.splitlines())))


@pytest.mark.parametrize("dtype", ["half precision", "single precision"])
def test_an_entry_takes_few_instructions(code, dtype):
    largest, sums, bonus, gradient = code[dtype]["loops"]
    assert largest + sums + bonus + gradient <= 75
    largest, sums, gradient = code[f"{dtype}, not smoothed"]["loops"]
    assert largest + sums + gradient <= 45


@pytest.mark.parametrize("case", CASES)
def test_memory_is_read_and_written_16_bytes_at_a_time_and_registers_suffice(code, case):
    assert code[case]["reads"] > 0
    assert code[case]["writes"] > 0
    assert code[case]["local"] == 0


def test_a_row_that_is_held_is_read_once(code):
    entries_of_a_thread = 8192 // (32 * 32)
    assert code["held"]["reads"] == entries_of_a_thread // 4
