"""Beyond the logits a loss on the CPU takes their gradient and little more, whatever they are."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from old_torch import tells_of_passes

from el_fairseq import encouraging_loss, linear_encouraging_loss
from el_fairseq.benchmarks.loss import peak_memory
from el_fairseq.ops.function import loss_of
from el_fairseq.ops.reference import Spec

needs_linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
pytestmark = [needs_linux, tells_of_passes]
CLASSES = 24_000
SMOOTHED = partial(encouraging_loss, label_smoothing=0.1)
OF_ROWS = partial(SMOOTHED, reduction="none")
WEIGHTED = partial(SMOOTHED, weight=torch.ones(CLASSES))


@pytest.fixture(scope="module")
def peak_of():
    """Peak of a loss's forward and backward in MiB, in a process that does nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield lambda *case: pool.submit(_peak, *case).result() / 2**20


def _peak(loss, size, dtype=torch.float32, transposed=False):
    def once(rows):
        made = torch.ones(*((size, rows) if transposed else (rows, size)), dtype=dtype)
        inputs = (made.t() if transposed else made).requires_grad_(), torch.zeros(rows).long()
        grad = torch.autograd.grad
        return peak_memory(lambda: grad(loss(*inputs).sum(), inputs[0]), torch.device("cpu"))

    once(2)  # compiles
    return once(2000)


def _in_place(logits, target):
    return loss_of([logits], target, Spec(inplace_backward=True))[0]


def _projected(hidden, target):
    return linear_encouraging_loss(hidden, torch.ones(64_000, hidden.size(1)), target)


@pytest.mark.parametrize("loss", [SMOOTHED, WEIGHTED, OF_ROWS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_loss_takes_at_most_64_mib_beyond_the_gradient(peak_of, loss, dtype, transposed):
    gradient = 2000 * CLASSES * dtype.itemsize / 2**20  # a copy in float32 would take 183 MiB
    assert peak_of(loss, CLASSES, dtype, transposed) < 64 + gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_place_it_takes_nothing_of_the_logits_size(peak_of, dtype):
    assert peak_of(_in_place, CLASSES, dtype) < 16


def test_the_fused_projection_keeps_less_than_the_logits(peak_of):
    assert peak_of(_projected, 32) < 244  # logits: 488 MiB
