"""Checkpoints of fairseq: averages, and repair of a folder after an interruption."""

import re
import shutil
import sys
from pathlib import Path

import torch

from ..common.cli import UserError
from ..common.files import writing
from ..safe_load import load


def epoch_checkpoints(folder):
    """Paths ``checkpoint1.pt``, ``checkpoint2.pt``, ... of a folder, the latest last."""
    return [path for path in _numbered(folder) if "_" not in path.name]


def _numbered(folder):
    """``checkpoint3.pt`` (an epoch's end) and ``checkpoint_3_400.pt``, the latest last."""
    paths = {}
    for path in Path(folder).glob("checkpoint*.pt"):
        match = re.fullmatch(r"checkpoint(?:(\d+)|_(\d+)_(\d+))\.pt", path.name)
        if match:
            end, epoch, updates = match.groups()
            paths[(int(epoch), int(updates)) if epoch else (int(end), float("inf"))] = path
    return [paths[key] for key in sorted(paths)]


class Checkpoint:
    """What a checkpoint says of its training: ``updates``, ``seconds`` (of all processes that
    led to it), ``validation`` (numbers of the last one), and whether it ``is_best`` so far."""

    def __init__(self, path):
        state = load(path)
        extra = state.get("extra_state", {})
        self.path = path
        self.updates = state["optimizer_history"][-1]["num_updates"]
        # A tensor where several processes trained.
        self.seconds = float(extra.get("previous_training_time", 0))
        self.validation = extra.get("last_validation", {})
        best = extra.get("best")
        self.is_best = best is not None and extra.get("val_loss") == best


def _first_whole(paths):
    for path in paths:
        try:
            return Checkpoint(path)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
        except (KeyError, IndexError, TypeError, AttributeError):
            print(f"warning: {path} is no checkpoint of a training", file=sys.stderr)
    return None


def newest(folder):
    """:class:`Checkpoint` of the newest checkpoint of a folder that loads; ``None``: there is none.

    Those that do not load are named on standard error.
    """
    folder = Path(folder)
    groups = [[folder / "checkpoint_last.pt"], _numbered(folder)[::-1]]
    groups = [[path for path in group if path.exists()] for group in groups]
    whole = list(filter(None, map(_first_whole, groups)))
    if any(groups) and not whole:
        raise UserError(
            f"every checkpoint in {folder} is damaged: move that folder away, and the same command "
            "trains from the beginning"
        )
    return max(whole, key=lambda checkpoint: checkpoint.updates, default=None)


def repair(folder):
    """Repair what a kill, a full disk or a fault leaves, so that resuming works.

    ``checkpoint_last.pt`` becomes the newest checkpoint that loads, and where that is the best so
    far, ``checkpoint_best.pt`` too. Nothing is removed before what takes its place is there.
    """
    folder = Path(folder)
    for unfinished in [*folder.glob("*.pt.tmp"), *folder.glob(".*.pt.unfinished")]:
        unfinished.unlink()
    latest = newest(folder)
    if latest is None:
        return
    last, best = folder / "checkpoint_last.pt", folder / "checkpoint_best.pt"
    if latest.path != last:
        copy(latest.path, last)
    if latest.is_best:
        before = _first_whole([best] if best.exists() else [])
        if before is None or before.updates < latest.updates:
            copy(latest.path, best)


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
