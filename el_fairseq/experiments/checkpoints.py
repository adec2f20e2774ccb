"""Checkpoints of fairseq: how they are written, and averages of them."""

import shutil
from pathlib import Path

import torch
from fairseq.checkpoint_utils import checkpoint_paths

from ..common.cli import UserError
from ..common.files import writing
from ..safe_load import load


def save(state, path):
    """Write a checkpoint; it appears, or is replaced, when all of it is on the disk."""
    with writing(path, "wb") as file:
        torch.save(state, file)


def copy(source, target):
    """Copy a checkpoint as :func:`save` writes one."""
    with Path(source).open("rb") as original, writing(target, "wb") as file:
        shutil.copyfileobj(original, file)


def average_last(folder, last, output):
    """Write the average of the parameters of the ``last`` epoch checkpoints of a folder.

    (Vaswani et al., 2017, section 6.1.) Floating-point tensors are averaged in float64 and written
    in their own dtype; others, such as version numbers, are taken from the last checkpoint, and so
    is all but the model, the optimizer's state left out.
    """
    paths = checkpoint_paths(str(folder), r"checkpoint(\d+)\.pt")[:last][::-1]  # the latest last
    if len(paths) < last:
        raise UserError(
            f"{folder} holds {len(paths)} epoch checkpoints, expected {last} to average: train "
            "longer, keep more (--keep-last-epochs), or lower --last"
        )
    sums = {}
    for path in paths:
        checkpoint = load(path)
        shapes = {name: tensor.shape for name, tensor in checkpoint["model"].items()}
        if sums and shapes != {name: tensor.shape for name, tensor in sums.items()}:
            raise UserError(f"{path} is of another model than {paths[0]}: average those of one run")
        for name, tensor in checkpoint["model"].items():
            sums[name] = sums.get(name, 0) + tensor.double()
    checkpoint["model"] = {
        name: (sums[name] / len(paths)).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint["model"].items()
    }
    checkpoint["last_optimizer_state"] = None
    save(checkpoint, output)
