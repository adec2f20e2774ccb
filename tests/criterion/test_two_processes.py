"""Two processes train one model: the same as one process with twice the batches."""

import functools
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fairseq
import pytest
import torch
from conftest import DEVICE, ROOT, run, succeed
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from torch.nn.parallel import DistributedDataParallel
from trainings import ENCODER_DECODER, configuration, train, with_criterion

pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and torch.cuda.device_count() < 2, reason="needs two GPUs"
)
SCHEDULE = {"bonus_delay_updates": 1, "bonus_warmup_updates": 3}
CASES = {
    "CE": ("label_smoothed_cross_entropy", {}),
    "EL": ("encouraging_loss", SCHEDULE),
    "EL, fused": ("encouraging_loss", {**SCHEDULE, "fused_projection": True}),
}
# The encoder of fairseq 0.12.2 holds weights that no training uses, which PyTorch's wrapper minds.
BACKENDS = ["legacy_ddp", *(["pytorch_ddp"] if fairseq.__version__ != "0.12.2" else [])]


def trainings(corpus, **options):
    """The result of ``train`` by name of the case, under options of distributed training."""
    # An odd number of batches; plain steps, which leave rounding errors as small as they are.
    words = ["--batch-size", 9, "--optimizer", "sgd", "--lr", 0.5]
    cfg = configuration(corpus, "--arch", "transformer", *ENCODER_DECODER, *words)
    cfg.distributed_training.update({"distributed_world_size": 1, **options})
    cfg.optimization.update_freq = [1 if options else 2]
    results = {}
    for name, (criterion, words) in CASES.items():
        chosen = with_criterion(cfg, criterion, **words)
        distributed_utils.call_main(
            chosen, lambda cfg, name=name: results.update({name: train(cfg)})
        )
    return results


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
    command = [sys.executable, __file__, small / "bin", out]
    path = {"PYTHONPATH": str(ROOT / "tests")}
    with ThreadPoolExecutor() as pool:
        ranks = [pool.submit(run, [*command, rank, 2, port], env=path) for rank in (0, 1)]
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


def main(corpus, out, rank, size, port):
    """One rank, in a process of its own."""
    if DEVICE == "cpu":  # fairseq names a GPU to PyTorch's wrapper there, too, which is an error
        distributed_fairseq_model.DistributedDataParallel = functools.wraps(
            DistributedDataParallel
        )(lambda module, **words: DistributedDataParallel(module))
    results = {
        backend: trainings(
            corpus,
            distributed_world_size=size,
            distributed_rank=rank,
            distributed_init_method=f"tcp://127.0.0.1:{port}",
            distributed_no_spawn=True,
            distributed_backend="gloo" if DEVICE == "cpu" else "nccl",
            device_id=rank,
            ddp_backend=backend,
        )
        for backend in BACKENDS
    }
    torch.save(results, Path(out) / f"rank{rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:6]))
