"""The machine code of the kernel for GPUs, compiled for one that is not here and counted.

The tests run this file as a program, because theirs has Triton interpret kernels. It prints a line
of JSON for each case.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton.backends.compiler", reason="no Triton 3, for Linux on x86-64 by pip")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from el_fairseq.ops.gpu import _row_kernel, lanes_of, warps_of

CASES = {  # dtype, classes (fairseq's are a multiple of 8), smoothed, bonus start, capability
    "half precision": ("fp16", 10152, True, False, 90),
    "half precision, not smoothed": ("fp16", 10152, False, False, 90),
    "single precision": ("fp32", 10152, True, False, 90),
    "single precision, not smoothed": ("fp32", 10152, False, False, 90),
    "with a start of the bonus": ("bf16", 10152, True, True, 90),
    "held": ("fp32", 8192, True, False, 90),
    "of an older GPU": ("bf16", 8192, True, True, 80),
}
PROGRAM = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="this Triton has no cuobjdump")


def machine_code(dtype, classes, smoothed, start, capability):
    """``[(address, instruction)]``."""
    pointers = {"logits": dtype, "target": "i64", "gradient": dtype, "correct": "i1"}
    pointers.update(dict.fromkeys(["scale", "loss", "nll"], "fp32"))
    signature, names = {}, _row_kernel.arg_names
    for name in names:
        is_whole = name in ("classes", "ignore_index") or name.endswith("_stride")
        signature[name] = "i32" if is_whole else "constexpr" if name.isupper() else "fp32"
        if name.endswith("_ptr"):
            signature[name] = "*" + pointers[name[: -len("_ptr")]]
    lanes = lanes_of(classes)
    constants = {
        **{"ALIGN": 8, "IS_NORMAL": False, "HAS_START": start, "IS_SMOOTHED": smoothed},
        **{"WITH_GRADIENT": True, "BLOCK": lanes, "IS_HELD": classes <= lanes},
    }
    aligned = {(k,): [["tt.divisibility", 16]] for k, n in enumerate(names) if n.endswith("_ptr")}
    kernel = triton.compile(
        ASTSource(_row_kernel, signature=signature, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps_of(lanes)},
    )
    cubin = Path("kernel.cubin")
    cubin.write_bytes(kernel.asm["cubin"])
    command = [PROGRAM, "-sass", cubin]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"/\*([0-9a-f]{4,5})\*/ +(.*?) ;", text)
    return [(int(address, 16), instruction) for address, instruction in found]


def loops(code, entries):
    """Instructions an entry of each loop, whose read of 16 bytes holds so many ``entries``."""
    for end, instruction in code:
        jump = re.search(r"\bBRA\b.*0x([0-9a-f]+)", instruction)
        if jump and int(jump[1], 16) < end:
            body = [words for address, words in code if int(jump[1], 16) <= address <= end]
            # It may read several times in a turn. Without arithmetic it is for rows with NaN alone.
            reads = sum("LDG.E.128" in words for words in body)
            if reads and any(re.search("FMNMX|MUFU", words) for words in body):
                yield len(body) / (entries * reads)


def counts(case):
    """Executed instructions an entry of each loop; how many instructions read and write 16 bytes
    and local memory."""
    code = machine_code(*case)
    text = "\n".join(instruction for _, instruction in code)
    return {
        "loops": list(loops(code, 4 if case[0] == "fp32" else 8)),
        "reads": text.count("LDG.E.128"),
        "writes": text.count("STG.E.128"),
        "local": text.count("LDL") + text.count("STL"),
    }


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    from conftest import run, succeed

    folder = tmp_path_factory.mktemp("compiled")
    said = succeed(
        run([sys.executable, __file__], cwd=folder, env={"TRITON_CACHE_DIR": str(folder)})
    ).stdout
    return dict(zip(CASES, map(json.loads, said.splitlines())))


@pytest.mark.parametrize("dtype", ["half precision", "single precision"])
def test_an_entry_takes_few_instructions(code, dtype):
    smoothed, others = code[dtype]["loops"], code[f"{dtype}, not smoothed"]["loops"]
    assert len(smoothed) == 4 and sum(smoothed) <= 75
    assert len(others) == 3 and sum(others) <= 45
    assert sum(code["with a start of the bonus"]["loops"]) <= 86


@pytest.mark.parametrize("case", CASES)
def test_memory_is_read_and_written_16_bytes_at_a_time_and_registers_suffice(code, case):
    assert code[case]["reads"] > 0
    assert code[case]["writes"] > 0
    assert code[case]["local"] == 0


def test_a_row_that_is_held_is_read_once(code):
    entries_of_a_thread = 8192 // (32 * 32)
    assert code["held"]["reads"] == entries_of_a_thread // 4


if __name__ == "__main__":
    for case in CASES.values():
        print(json.dumps(counts(case)))
