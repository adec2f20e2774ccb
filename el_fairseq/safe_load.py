"""Loads checkpoints of fairseq by torch's safe loader, which never runs code in them."""

import argparse
import zipfile

import numpy as np
import torch

from .common.cli import UserError


def trust_fairseq_checkpoints():
    """Let torch's safe loader (``weights_only``, the default since 2.6) read fairseq checkpoints.

    Besides tensors and plain containers they hold ``argparse.Namespace`` and, where training
    validates by BLEU (``--eval-bleu``), small numpy arrays of counts: neither runs code when it
    is loaded. A checkpoint with anything else is still refused. Versions of torch before 2.4 have
    no such list: there, this does nothing.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        reconstruct = np.zeros(1).__reduce__()[0]
        dtypes = [type(np.dtype(kind)) for kind in (np.int64, np.float64)]
        torch.serialization.add_safe_globals(
            [argparse.Namespace, reconstruct, np.ndarray, np.dtype, *dtypes]
        )


def load(path):
    """Load a fairseq checkpoint on the CPU by torch's safe loader, and verify its checksums.

    Raises:
        UserError: the file does not exist, is cut off or altered, or holds more than tensors, plain
            containers and options (for example code, which is not run).
    """
    trust_fairseq_checkpoints()
    refused = "is no whole checkpoint"
    try:
        if zipfile.is_zipfile(path):  # else it is cut off, or in torch's format before 1.6
            # torch does not verify the checksums: it would read damaged bytes as weights.
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f"{damaged} in it is damaged")
            refused = "was refused by torch's safe loader"
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}; train first, or name another") from None
    except Exception as error:  # on other files torch raises errors that it does not document
        reason = str(error).partition("\n")[0] or "it is cut off"
        raise UserError(f"{path} {refused}: {reason}; take another") from None
    if not isinstance(checkpoint, dict) or "model" not in checkpoint:
        raise UserError(f"{path} is no fairseq checkpoint: it holds no 'model'")
    return checkpoint
