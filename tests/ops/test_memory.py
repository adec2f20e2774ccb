"""Beyond the logits a loss on the CPU takes their gradient and little more, whatever they are."""

from pathlib import Path

import pytest
import torch
from old_torch import tells_of_passes

from el_fairseq import encouraging_loss, linear_encouraging_loss
from el_fairseq.benchmarks.loss import peak_memory
from el_fairseq.ops.function import loss_of
from el_fairseq.ops.reference import Spec

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="needs Linux, which tells the peak"
    ),
    tells_of_passes,
]
MIB = 2**20


def peak(loss, *inputs):
    """In MiB, of forward and backward."""
    inputs[0].requires_grad_()
    return (
        peak_memory(lambda: torch.autograd.grad(loss(*inputs), inputs[0]), torch.device("cpu"))
        / MIB
    )


@pytest.mark.parametrize(
    ("dtype", "layout", "weighted"),
    [
        ("float32", "rows", False),
        ("bfloat16", "rows", False),
        ("float16", "rows", False),
        ("float32", "transposed", False),
        ("float32", "rows", True),
        ("bfloat16", "rows", True),
    ],
)
def test_a_loss_takes_at_most_64_mib_beyond_the_gradient(dtype, layout, weighted):
    weight = torch.rand(24_000) if weighted else None

    def loss(logits):
        target = torch.zeros(len(logits), dtype=torch.int64)
        return encouraging_loss(logits, target, label_smoothing=0.1, weight=weight)

    def logits(rows):
        size = (24_000, rows) if layout == "transposed" else (rows, 24_000)
        made = torch.ones(size, dtype=getattr(torch, dtype))
        return made.t() if layout == "transposed" else made

    peak(loss, logits(2))  # compiles
    large = logits(900 if weighted else 2000)  # a copy in float32 would take 82 or 183 MiB
    assert peak(loss, large) < 64 + large.numel() * large.element_size() / MIB


def test_in_place_it_takes_nothing_of_the_logits_size():
    logits, target = torch.ones(2000, 24_000), torch.zeros(2000, dtype=torch.int64)
    spec = Spec(inplace_backward=True)
    assert peak(lambda x: loss_of([x], target, spec)[0], logits) < 16


def test_the_fused_projection_keeps_less_than_the_logits():
    hidden, weight = torch.ones(8000, 32), torch.ones(16_000, 32)  # logits: 488 MiB
    target = torch.zeros(8000, dtype=torch.int64)
    assert peak(lambda *x: linear_encouraging_loss(*x, target), hidden, weight) < 244
