"""Checkpoints of fairseq: averages, and order in a folder after an interruption."""

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
    found = {}
    for path in Path(folder).glob("checkpoint*.pt"):
        match = re.fullmatch(r"checkpoint(?:(\d+)|_(\d+)_(\d+))\.pt", path.name)
        if match:
            end, epoch, updates = match.groups()
            found[(int(epoch), int(updates)) if epoch else (int(end), float("inf"))] = path
    return [found[key] for key in sorted(found)]


class Checkpoint:
    """What a checkpoint says of its training: ``updates``, ``seconds`` (of all processes that
    led to it), ``validation`` (numbers of the last one), and whether it ``is_best`` so far."""

    def __init__(self, path):
        state = load(path)
        extra = state.get("extra_state", {})
        self.path = path
        self.updates = state["optimizer_history"][-1]["num_updates"]
        self.seconds = float(
            extra.get("previous_training_time", 0)
        )  # a tensor of several processes
        self.validation = extra.get("last_validation", {})
        self.best = extra.get("best")
        self.is_best = self.best is not None and extra.get("val_loss") == self.best


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

    Raises:
        UserError: there are checkpoints, but none loads.
    """
    folder = Path(folder)
    last, best = folder / "checkpoint_last.pt", folder / "checkpoint_best.pt"
    groups = [[last], _numbered(folder)[::-1], [best]]
    groups = [[path for path in group if path.exists()] for group in groups]
    found = list(filter(None, map(_first_whole, groups)))
    if any(groups) and not found:
        raise UserError(
            f"no checkpoint in {folder} is whole: move that folder away, and the same command "
            "trains from the beginning"
        )
    return max(found, key=lambda progress: progress.updates, default=None)


def repair(folder):
    """Put in order what a kill, a full disk or a fault can leave, so that resuming works.

    ``checkpoint_last.pt`` becomes the newest checkpoint that loads, and ``checkpoint_best.pt``,
    where it is missing, damaged or older, the one it was to be. Nothing is removed before what
    takes its place is there.
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
    if latest.best is None:
        return
    before = _first_whole([best] if best.exists() else [])
    if latest.is_best and (before is None or before.updates < latest.updates):
        copy(latest.path, best)
    elif before is None:
        for path in reversed(_numbered(folder)):
            progress = _first_whole([path])
            if progress and progress.is_best and progress.best == latest.best:
                copy(path, best)
                break


def save(state, path):
    """Write a checkpoint; it appears, or is replaced, when all of it is on the disk.

    Raises:
        UserError: it could not be written; the message says why.
    """
    try:
        with writing(path, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch hides the first behind the second
        raise _not_written(path, error) from None


def copy(source, target):
    """Copy a checkpoint as :func:`save` writes one."""
    try:
        with Path(source).open("rb") as original, writing(target, "wb") as file:
            shutil.copyfileobj(original, file)
    except OSError as error:
        raise _not_written(target, error) from None


def _not_written(path, error):
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return UserError(
        f"{path} could not be written ({reason}): make room, and run the same command again; it "
        "goes on from what is there"
    )


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
