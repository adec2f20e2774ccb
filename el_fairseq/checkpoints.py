"""Checkpoints of fairseq: safe loading, mending after an interruption, averaging."""

import argparse
import pickle
import re
import zipfile
from pathlib import Path

import torch

from .cli import UserError, run
from .files import writing


def trust_fairseq_checkpoints():
    """Let torch's safe loader (``weights_only``, the default since 2.6) read fairseq checkpoints.

    Besides tensors and plain containers they hold one class, ``argparse.Namespace``, which runs
    no code when it is loaded. A checkpoint that carries anything else is still refused. Versions
    of torch that have no such list (before 2.4) are left as they are.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([argparse.Namespace])


def load(path):
    """Load a fairseq checkpoint on the CPU by torch's safe loader.

    Raises:
        UserError: there is none, it is cut off, or it holds more than tensors, plain containers
            and options (code, for one, which is not run).
    """
    trust_fairseq_checkpoints()
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}; train first, or name another") from None
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} was refused by torch's safe loader: {reason}") from None
    except (RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is no whole checkpoint: {reason}; take another") from None
    if not isinstance(checkpoint, dict) or "model" not in checkpoint:
        raise UserError(f"{path} is no fairseq checkpoint: it holds no 'model'")
    return checkpoint


def epoch_checkpoints(folder):
    """Paths ``checkpoint1.pt``, ``checkpoint2.pt``, ... of a folder, the latest last."""
    found = {}
    for path in Path(folder).glob("checkpoint*.pt"):
        match = re.fullmatch(r"checkpoint(\d+)\.pt", path.name)
        if match:
            found[int(match.group(1))] = path
    return [found[epoch] for epoch in sorted(found)]


def repair(folder):
    """Mend what a kill can leave in fairseq's folder of checkpoints, so that resuming works.

    fairseq writes a numbered checkpoint beside and renames it, then copies it to
    ``checkpoint_best.pt`` and ``checkpoint_last.pt`` in place: a kill during the copy leaves a
    part. Such a part is copied again from the numbered checkpoint it was to be.
    """
    folder = Path(folder)
    for unfinished in folder.glob("*.pt.tmp"):
        unfinished.unlink()
    numbered = [
        path
        for path in folder.glob("checkpoint*.pt")
        if re.fullmatch(r"checkpoint(\d+|_\d+_\d+)\.pt", path.name)
    ]
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        path = folder / name
        if path.exists() and not zipfile.is_zipfile(path):
            path.unlink()
            if numbered:
                latest = max(numbered, key=lambda numbered_path: numbered_path.stat().st_mtime)
                with writing(path, "wb") as file:
                    file.write(latest.read_bytes())


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
        prog="python -m el_fairseq.checkpoints",
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
