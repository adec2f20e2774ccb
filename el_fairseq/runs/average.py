"""The average of checkpoints of one training."""

import argparse
from pathlib import Path

import torch

from ..common.cli import UserError, run
from ..common.files import writing
from .checkpoints import epoch_checkpoints, load


def average(paths):
    """Average the parameters of checkpoints of one model (Vaswani et al., 2017, section 6.1).

    Floating-point tensors are averaged in float64 and returned in their own dtype; others, such
    as version numbers, are taken from the last checkpoint, and so is all but the model, the
    optimizer's state left out.

    Raises:
        UserError: a checkpoint cannot be loaded, or they are not of one model.
    """
    sums = {}
    for path in paths:
        checkpoint = load(path)
        shapes = {name: tensor.shape for name, tensor in checkpoint["model"].items()}
        if sums and shapes != {name: tensor.shape for name, tensor in sums.items()}:
            raise UserError(f"{path} is of another model than {paths[0]}: average those of one run")
        for name, tensor in checkpoint["model"].items():
            if not tensor.is_floating_point():
                sums[name] = tensor
            elif name in sums:
                sums[name] += tensor.double()
            else:
                sums[name] = tensor.double()
    checkpoint["model"] = {
        name: (sums[name] / len(paths)).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint["model"].items()
    }
    checkpoint["last_optimizer_state"] = None
    return checkpoint


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.runs.average",
        description="Average the last N epoch checkpoints of a folder.",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--last", type=int, required=True, metavar="N")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.last < 1:
        parser.error(f"--last is {arguments.last}, expected 1 or more")
    paths = epoch_checkpoints(arguments.folder)[-arguments.last :]
    if len(paths) < arguments.last:
        raise UserError(
            f"{arguments.folder} holds {len(paths)} epoch checkpoints, expected {arguments.last} "
            "to average: train longer, keep more (--keep-last-epochs), or lower --last"
        )
    averaged = average(paths)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with writing(arguments.output, "wb") as file:
        torch.save(averaged, file)
    names = ", ".join(path.name for path in paths)
    print(f"Averaged {names} into {arguments.output}")


if __name__ == "__main__":
    run(main)
