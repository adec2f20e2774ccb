"""One rank of trainings in several processes: ``python ranks.py CORPUS OUT RANK SIZE PORT``."""

import functools
import sys
from pathlib import Path

import fairseq
import torch
from conftest import DEVICE
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from torch.nn.parallel import DistributedDataParallel
from trainings import ENCODER_DECODER, configuration, train, with_criterion

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


def main(corpus, out, rank, size, port):
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
