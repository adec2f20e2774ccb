"""Checkpoints of fairseq: safe loading, and mending after an interruption."""

import argparse
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import torch

from ..common.cli import UserError
from ..common.files import writing


def trust_fairseq_checkpoints():
    """Let torch's safe loader (``weights_only``, the default since 2.6) read fairseq checkpoints.

    Besides tensors and plain containers they hold ``argparse.Namespace`` and, where training
    validates by BLEU (``--eval-bleu``), small numpy arrays of counts: neither runs code when it
    is loaded. A checkpoint that carries anything else is still refused. Versions of torch that
    have no such list (before 2.4) are left as they are.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        counts = np.zeros(1, dtype=np.int64)
        reconstruct = counts.__reduce__()[0]
        dtypes = [type(np.dtype(kind)) for kind in (np.int64, np.float64)]
        torch.serialization.add_safe_globals(
            [argparse.Namespace, reconstruct, np.ndarray, np.dtype, *dtypes]
        )


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
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} was refused by torch's safe loader: {reason}") from None
    except (RuntimeError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0] or "it is cut off"
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
