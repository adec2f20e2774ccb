"""Beyond the logits a loss on the CPU takes their gradient and little more, whatever they are."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import run, succeed

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="needs Linux, which tells the peak"
    ),
    pytest.mark.skipif(
        not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"),
        reason="before torch 2.1, which does not tell that no pass will follow, a gradient is kept",
    ),
]
# Prints the peak of resident memory beyond logits and gradient, in MiB: in a process of its own,
# whose memory no other test has left.
PROGRAM = """
import sys, torch
from el_fairseq import encouraging_loss
from el_fairseq.benchmarks.loss import peak_memory

dtype, layout, weighted, rows = sys.argv[1:]
def made(rows):
    size = (24_000, rows) if layout == "transposed" else (rows, 24_000)
    logits = torch.ones(size, dtype=getattr(torch, dtype))
    return (logits.t() if layout == "transposed" else logits).requires_grad_()

def gradient(logits):
    weight = torch.rand(24_000) if weighted == "weighted" else None
    target = torch.zeros(len(logits), dtype=torch.int64)
    loss = encouraging_loss(logits, target, label_smoothing=0.1, weight=weight)
    return torch.autograd.grad(loss, logits)[0]

gradient(made(2))  # compiles
logits = made(int(rows))
peak = peak_memory(lambda: gradient(logits), logits.device)
print((peak - logits.numel() * logits.element_size()) / 2**20)
"""


@pytest.mark.parametrize(
    ("dtype", "layout", "weighted"),
    [
        ("bfloat16", "rows", ""),
        ("float16", "rows", ""),
        ("float32", "transposed", ""),
        ("float32", "rows", "weighted"),
        ("bfloat16", "rows", "weighted"),
    ],
)
def test_a_loss_takes_at_most_64_mib_beyond_the_gradient(dtype, layout, weighted):
    rows = 700 if weighted else 2000  # a copy in float32 would take 64 or 183 MiB, and some more
    program = [sys.executable, "-c", PROGRAM, dtype, layout, weighted, rows]
    assert float(succeed(run(program)).stdout) < 64
