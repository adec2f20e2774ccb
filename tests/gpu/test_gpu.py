"""What a GPU alone can show; ``bash scripts/test.sh --gpu`` runs it there.

Everywhere else the same cases run on the CPU, small, so that they are known to work.
"""

import importlib.util
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import ROOT, run, succeed
from formula import literal_losses, loss_and_gradient
from stack_losses import corpus, fairseq_losses

import el_fairseq.criterion  # noqa: F401  (registers it)
from el_fairseq import encouraging_loss, linear_encouraging_loss

DEVICE = os.environ.get("EL_TEST_DEVICE", "cpu")
ON_GPU = DEVICE == "cuda"
HALF = ["--fp16"] if ON_GPU else ["--cpu"]
# Relative to the largest entry: a few roundings of the dtype that the gradient is kept in.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
LAYOUTS = {
    "side by side": lambda x: x,
    "transposed": lambda x: x.t().contiguous().t(),
    "part of wider rows": lambda x: torch.cat([x, x], 1)[:, : x.size(1)],
}


def random_case(count, classes, dtype):
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(count, classes, generator=generator)
    target = torch.randint(classes, (count,), generator=generator)
    logits[torch.arange(count // 2), target[: count // 2]] += 9  # some are predicted right
    return logits.to(DEVICE, dtype), target.to(DEVICE)


def difference(actual, expected):
    return ((actual.double() - expected).abs().max() / expected.abs().max()).item()


def test_the_kernel_for_gpus_is_there():
    assert importlib.util.find_spec("triton"), "PyTorch's CUDA builds bring Triton"


@pytest.mark.parametrize("classes", [33, 5000, 250_002 if ON_GPU else 9000])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_loss_and_gradient_are_the_formula(dtype, layout, classes):
    logits, target = random_case(24, classes, dtype)
    for log_end in (0.5, 1.0):
        options = {"log_end": log_end, "label_smoothing": 0.1}
        expected, expected_gradient = loss_and_gradient(
            lambda x, options=options: literal_losses(x, target, **options), logits.double()
        )
        actual, gradient = loss_and_gradient(
            lambda x, options=options: encouraging_loss(
                LAYOUTS[layout](x), target, reduction="sum", **options
            ),
            logits,
        )
        assert gradient.dtype == dtype
        assert difference(actual, expected) < 1e-5
        assert difference(gradient, expected_gradient) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_the_projection_is_the_formula_of_its_logits(dtype):
    hidden, _ = random_case(24, 16, dtype)
    weight, _ = random_case(3000, 16, dtype)
    target = torch.arange(24, device=DEVICE)
    expected, expected_gradient = loss_and_gradient(
        lambda x: literal_losses(x @ weight.double().t(), target), hidden.double()
    )
    actual, gradient = loss_and_gradient(
        lambda x: linear_encouraging_loss(x, weight, target, reduction="sum"), hidden
    )
    # The logits themselves are rounded to the dtype.
    assert difference(actual, expected) < 10 * TOLERANCES[dtype]
    assert difference(gradient, expected_gradient) < 10 * TOLERANCES[dtype]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Losses of ten updates by name, at half precision on a GPU."""
    folder = tmp_path_factory.mktemp("trained")
    cases = {
        "CE": ("label_smoothed_cross_entropy",),
        "EL": ("encouraging_loss",),
        "EL without its bonus": ("encouraging_loss", "--bonus-weight", "0"),
        "EL, fused": ("encouraging_loss", "--fused-projection"),
    }
    return {
        name: fairseq_losses(data, folder, *words, *HALF, updates=10)
        for name, words in cases.items()
    }


@pytest.mark.parametrize("name", ["CE", "EL", "EL, fused"])
def test_training_at_half_precision_learns(trained, name):
    losses = trained[name]
    assert len(losses) >= 10
    assert sum(losses[-3:]) < sum(losses[:3])


def test_training_fused_is_training_unfused(trained):
    assert trained["EL, fused"] == pytest.approx(trained["EL"], rel=2e-2)


def test_training_without_the_bonus_is_training_with_cross_entropy(trained):
    assert trained["EL without its bonus"] == pytest.approx(trained["CE"], rel=2e-2)


@pytest.mark.skipif(ON_GPU and torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices_train_as_one_with_twice_the_batches_an_update(data, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "tests" / "gpu" / "rank.py", data, tmp_path]
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(run, [*command, rank, port, DEVICE]) for rank in (0, 1)]
        for rank in both:
            succeed(rank.result())
    words = ["--update-freq", "2", *([] if ON_GPU else ["--cpu"])]
    alone = fairseq_losses(data, tmp_path, "encouraging_loss", *words, updates=5)
    for rank in (0, 1):
        losses = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert losses[:5] == pytest.approx(alone[rank::2][:5], rel=1e-3)
