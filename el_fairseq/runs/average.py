"""The average of checkpoints of one training."""

import argparse
import sys
from pathlib import Path

from ..common.cli import UserError, run, whole_number
from .checkpoints import epoch_checkpoints, load, save


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


def average_last(folder, last, output):
    """Write the average of the ``last`` epoch checkpoints of a folder to ``output``.

    Raises:
        UserError: there are fewer, or :func:`average` refuses them.
    """
    paths = epoch_checkpoints(folder)[-last:]
    if len(paths) < last:
        raise UserError(
            f"{folder} holds {len(paths)} epoch checkpoints, expected {last} to average: train "
            "longer, keep more (--keep-last-epochs), or lower --last"
        )
    averaged = average(paths)
    output.parent.mkdir(parents=True, exist_ok=True)
    save(averaged, output)
    names = ", ".join(path.name for path in paths)
    print(f"Averaged {names} into {output}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.runs.average",
        description="Average the last N epoch checkpoints of a folder.",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--last", type=whole_number(1), required=True, metavar="N")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    average_last(arguments.folder, arguments.last, arguments.output)


if __name__ == "__main__":
    run(main)
