"""What needs CUDA itself: streams, graphs, large sizes, and that nothing waits for the device."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from formula import literal_losses

from el_fairseq import encouraging_loss, linear_encouraging_loss
from el_fairseq.ops.function import loss_of
from el_fairseq.ops.reference import Spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SPEC = Spec(label_smoothing=0.1, reduction="none", inplace_backward=True)


def random_case(rows, classes, dtype=torch.float32, seed=0):
    generator = torch.Generator(device="cuda").manual_seed(seed)
    logits = torch.empty(rows, classes, dtype=dtype, device="cuda")
    for some in logits.split(max(1, 2**28 // classes)):
        some.copy_(3 * torch.randn(some.shape, generator=generator, device="cuda"))
    return logits, torch.randint(classes, (rows,), generator=generator, device="cuda")


def backward(logits, target):
    logits.grad = None
    loss = encouraging_loss(logits, target, label_smoothing=0.1)
    loss.backward()
    return loss


def check(logits, target, loss, gradient):
    """Against the literal formula in float64."""
    logits = logits.detach().double().requires_grad_()
    expected = literal_losses(logits, target, label_smoothing=0.1)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    error = (gradient.double() - expected_gradient).abs().amax(1)
    tolerance = 2e-5 if gradient.dtype == torch.float32 else 1e-2
    assert (error / expected_gradient.abs().amax(1)).max() < tolerance


@pytest.mark.parametrize(
    ("rows", "classes", "dtype"),
    [
        (1_000_003, 10, torch.float32),
        (70_001, 32_000, torch.float16),
        (9_001, 256_000, torch.bfloat16),
        (8_400, 256_000, torch.float32),
    ],
)
def test_beyond_2_31_entries_the_last_rows_are_right(rows, classes, dtype):
    logits, target = random_case(rows, classes, dtype)
    last = logits[-5:].clone()
    loss, _, _ = loss_of([logits.requires_grad_()], target, SPEC)
    (gradient,) = torch.autograd.grad(loss, logits, torch.ones_like(loss))
    check(last, target[-5:], loss[-5:], gradient[-5:])


@pytest.mark.parametrize(
    "classes", [10, 32, 33, 1000, 1024, 4096, 8192, 8193, 10152, 50_257, 128_256, 256_000]
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_in_place_and_apart_are_the_same_right_bits_each_time(classes, dtype):
    logits, target = random_case(min(4096, 2**27 // classes), classes, dtype)
    results = []
    for in_place in [False] + 10 * [True]:
        copy = logits.clone().requires_grad_()
        spec = SPEC._replace(reduction="sum", inplace_backward=in_place)
        loss, _, _ = loss_of([copy], target, spec)
        results.append((loss.detach(), *torch.autograd.grad(loss, copy)))
    assert all(all(map(torch.equal, result, results[0])) for result in results)
    few, some = logits[:100], target[:100]
    loss, nll, correct = loss_of([few], some, SPEC)
    check(few, some, loss, results[0][1][:100])
    torch.testing.assert_close(nll, F.cross_entropy(few.float(), some, reduction="none"))
    assert torch.equal(correct, few.argmax(1) == some)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_of_forward_and_backward_is_replayed_on_other_numbers(dtype):
    (logits, target), (others, other_target) = (random_case(512, 10152, dtype, k) for k in (0, 1))
    logits.requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            backward(logits, target)
    torch.cuda.current_stream().wait_stream(stream)
    logits.grad, graph = None, torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = backward(logits, target)
    with torch.no_grad():
        logits.copy_(others), target.copy_(other_target)
    graph.replay()
    torch.testing.assert_close(loss, backward(others.requires_grad_(), other_target))
    torch.testing.assert_close(logits.grad, others.grad)


def test_the_kernels_run_on_the_current_stream():
    logits, target = random_case(512, 8000)
    expected, stream = encouraging_loss(logits, target), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10**7)
        actual = encouraging_loss(logits * 1.0, target)
    torch.cuda.current_stream().wait_stream(stream)
    assert actual == expected


def test_nothing_waits_for_the_device():
    logits, target = random_case(64, 1000)
    cases = [logits.requires_grad_(), logits.half().detach().requires_grad_()]
    for warm in (True, False):
        torch.cuda.set_sync_debug_mode("default" if warm else "error")
        try:
            for case in cases:
                backward(case, target)
            matrix = torch.zeros(7, 1000, device="cuda", requires_grad=True)
            linear_encouraging_loss(logits, matrix, target % 7).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_under_autocast_and_a_loss_scale_the_gradient_is_that_of_float32(dtype):
    model = torch.nn.Linear(32, 999, bias=False, device="cuda")
    hidden, target = torch.randn(64, 32, device="cuda"), torch.randint(999, (64,), device="cuda")
    expected = torch.autograd.grad(encouraging_loss(model(hidden), target), model.weight)[0]
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)
    for is_fused in (False, True):
        with torch.autocast("cuda", dtype=dtype):
            fused = linear_encouraging_loss(hidden, model.weight, target)
            loss = fused if is_fused else encouraging_loss(model(hidden), target)
        (gradient,) = torch.autograd.grad(scaler.scale(loss), model.weight)
        error = (gradient / scaler.get_scale() - expected).norm() / expected.norm()
        assert error < (4e-3 if dtype == torch.float16 else 2e-2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_fused_projection_of_several_blocks_agrees_with_a_linear_layer(dtype):
    shapes = (5000, 512), (32_000, 512), (32_000,)
    inputs = [torch.randn(*x, device="cuda", dtype=dtype, requires_grad=True) for x in shapes]
    target = torch.randint(32_000, (5000,), device="cuda")
    loss = encouraging_loss(F.linear(*inputs).float(), target, reduction="none")
    fused = linear_encouraging_loss(*inputs[:2], target, inputs[2], reduction="none")
    factors = torch.rand(5000, device="cuda")
    pairs = zip(*(torch.autograd.grad(each, inputs, factors) for each in (loss, fused)))
    errors = [((ours - true).float().norm() / true.float().norm()).item() for true, ours in pairs]
    assert max(errors) < (1e-4 if dtype == torch.float32 else 2e-2)


PROGRAM = """
import torch
from el_fairseq import encouraging_loss
logits = torch.randn(4, 10, device="cuda", requires_grad=True)
encouraging_loss(logits, torch.tensor([1, 2, {target}, 3], device="cuda")).backward()
torch.cuda.synchronize()
"""


def program(target, **environment):
    words = [sys.executable, "-c", PROGRAM.format(target=target)]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment})


def test_a_target_that_is_no_class_ends_the_program():
    assert program(10).returncode


def test_without_a_compiler_for_triton_the_formula_serves(tmp_path):
    done = program(0, CC="/bin/false", TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "slower than it could be on cuda" in done.stderr
