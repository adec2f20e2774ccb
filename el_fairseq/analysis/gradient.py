"""How much of the gradient comes from tokens that are already predicted well, in closed form."""

import numpy as np
import torch

from ..ops.reference import Spec

WELL_CLASSIFIED = 0.5


def gradient_size(prob, log_end=None):
    """L1 norm of the loss's gradient with respect to the logits of one token.

    The gradient is ``-g (1 - p)`` for the target, of probability ``p``, and ``g p_k`` for the
    others: its L1 norm is ``2 (1 - p) g``. Cross-entropy has ``g = 1``; the bonus adds
    ``-p b'(p)`` (arXiv 2110.06537, section 3). No label smoothing. ``prob`` holds probabilities
    of targets, in any shape; ``log_end`` is in (0, 1], or ``None`` for cross-entropy.
    """
    p = torch.tensor(np.asarray(prob, dtype=np.float64), requires_grad=True)
    bonus = 0 * p if log_end is None else Spec(log_end).bonus(p, 1 - p)
    (derivative,) = torch.autograd.grad(bonus.sum(), p)
    return (2 * (1 - p) * (1 - p * derivative)).detach().numpy()


def gradient_shares(prob, log_end):
    """Where the gradient comes from under cross-entropy (``ce``) and the encouraging loss (``el``).

    Returns the share of ``tokens`` with p > 0.5, and their share of each gradient.
    """
    well = prob > WELL_CLASSIFIED
    shares = {"log_end": log_end, "tokens": float(well.mean())}
    for loss, end in (("ce", None), ("el", log_end)):
        size = gradient_size(prob, end)
        shares[loss] = float(size[well].sum() / size.sum())
    return shares
