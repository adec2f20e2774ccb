"""Checkpoints of fairseq: how they are written, and averages of them."""

import re
import shutil
from pathlib import Path

import torch

from ..common.cli import UserError
from ..common.files import writing
from ..safe_load import load


def epoch_checkpoints(folder):
    """Paths ``checkpoint1.pt``, ``checkpoint2.pt``, ... of a folder, the latest last."""
    matches = (re.fullmatch(r"checkpoint(\d+)\.pt", path.name) for path in folder.iterdir())
    numbers = sorted(int(match[1]) for match in matches if match)
    return [folder / f"checkpoint{number}.pt" for number in numbers]


def save(state, path):
    """Write a checkpoint; it appears, or is replaced, when all of it is on the disk."""
    with writing(path, "wb") as file:
        torch.save(state, file)


def copy(source, target):
    """Copy a checkpoint as :func:`save` writes one."""
    with Path(source).open("rb") as original, writing(target, "wb") as file:
        shutil.copyfileobj(original, file)


def average(paths):
    """Average the parameters of checkpoints of one model (Vaswani et al., 2017, section 6.1).

    Floating-point tensors are averaged in float64 and returned in their own dtype; others, such
    as version numbers, are taken from the last checkpoint, and so is all but the model, the
    optimizer's state left out.
    """
    sums = {}
    for path in paths:
        checkpoint = load(path)
        shapes = {name: tensor.shape for name, tensor in checkpoint["model"].items()}
        if sums and shapes != {name: tensor.shape for name, tensor in sums.items()}:
            raise UserError(f"{path} is of another model than {paths[0]}: average those of one run")
        for name, tensor in checkpoint["model"].items():
            if tensor.is_floating_point():
                tensor = sums.get(name, 0) + tensor.double()
            sums[name] = tensor
    checkpoint["model"] = {
        name: (sums[name] / len(paths)).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint["model"].items()
    }
    checkpoint["last_optimizer_state"] = None
    return checkpoint


def average_last(folder, last, output):
    """Write the average of the ``last`` epoch checkpoints of a folder to ``output``."""
    paths = epoch_checkpoints(folder)[-last:]
    if len(paths) < last:
        raise UserError(
            f"{folder} holds {len(paths)} epoch checkpoints, expected {last} to average: train "
            "longer, keep more (--keep-last-epochs), or lower --last"
        )
    save(average(paths), output)
