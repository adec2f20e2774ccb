"""Two processes train one model: the same as one process with twice the batches."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import DEVICE, ROOT, run, succeed
from ranks import BACKENDS, CASES, trainings

pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and torch.cuda.device_count() < 2, reason="needs two GPUs"
)


@pytest.fixture(scope="module")
def alone(small):
    return trainings(small / "bin")


@pytest.fixture(scope="module")
def together(small, tmp_path_factory):
    """What the two ranks logged and ended with, by backend and case."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "tests" / "ranks.py", small / "bin", out]
    with ThreadPoolExecutor() as pool:
        ranks = [pool.submit(run, [*command, rank, 2, port]) for rank in (0, 1)]
        for rank in ranks:
            succeed(rank.result())
    return [torch.load(out / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_processes_train_as_one_with_twice_the_batches_an_update(
    alone, together, backend, case
):
    if backend not in BACKENDS:
        pytest.skip(f"{backend} fails in fairseq 0.12.2 with its own criterion")
    expected = alone[case]
    sentences = [log["bsz"] for log in expected["logs"]]
    assert sentences[-1] <= sentences[0] / 2  # at last one process has a batch, the other none
    for rank in together:
        actual = rank[backend][case]
        torch.testing.assert_close(actual["weights"], expected["weights"], rtol=1e-4, atol=1e-5)
        for key in ("loss", "nll_loss", "gnorm", "bonus_weight"):
            logs = [[log.get(key) for log in which["logs"]] for which in (actual, expected)]
            if case != "CE" or key != "bonus_weight":
                assert logs[0] == pytest.approx(logs[1], abs=1.5e-3)  # logged to three places
