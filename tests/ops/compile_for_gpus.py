"""Compile the kernel of rows for GPUs, and print what its machine code holds, a line a case.

The argument is a JSON list of ``[dtype, classes, smoothed, start, capability]``. A line holds
``loops``, the executed instructions an entry of each, and how many instructions read and write
16 bytes and local memory.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from el_fairseq.ops.gpu import _row_kernel, lanes_of, warps_of

PROGRAM = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


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
        **{"WITH_GRADIENT": True, "IS_FAST": True, "BLOCK": lanes, "IS_HELD": classes <= lanes},
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


for case in json.loads(sys.argv[1]):
    code = machine_code(*case)
    text = "\n".join(instruction for _, instruction in code)
    found = {
        "loops": list(loops(code, 4 if case[0] == "fp32" else 8)),
        "reads": text.count("LDG.E.128"),
        "writes": text.count("STG.E.128"),
        "local": text.count("LDL") + text.count("STL"),
    }
    print(json.dumps(found))
