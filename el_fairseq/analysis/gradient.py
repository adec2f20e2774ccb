"""How much of the gradient comes from tokens that are already predicted well, in closed form."""

import numpy as np

from ..loss import BONUS_FLOOR

WELL_CLASSIFIED = 0.5


def gradient_size(prob, log_end=None):
    """L1 norm of the loss's gradient with respect to the logits of one token.

    With ``g = -1 + p b'(p)`` for the target's probability ``p``, the gradient is ``g (1 - p)``
    for the target and ``-g p_k`` for the others: its L1 norm is ``2 (1 - p) |g|``. Cross-entropy
    has ``g = -1``; the bonus adds ``-p / (1 - p)`` on the log curve and ``-p / (1 - log_end)``
    beyond (arXiv 2110.06537, section 3). No label smoothing.

    Args:
        prob: probabilities of the targets, any shape.
        log_end: of the encouraging loss, in (0, 1]; None for cross-entropy.
    """
    prob = np.asarray(prob, dtype=np.float64)
    rest = 1 - prob
    if log_end is None:
        return 2 * rest
    if log_end == 1:
        # The normal bonus is flat where 1 - p is below its floor.
        return 2 * (rest + np.where(rest > BONUS_FLOOR, prob, 0))
    return 2 * (rest + prob * np.minimum(1, rest / (1 - log_end)))


def well_classified_share(prob, log_end):
    """Share of tokens with p > 0.5, and of the gradient that comes from them, under CE and EL."""
    well = np.asarray(prob) > WELL_CLASSIFIED
    shares = {"threshold": WELL_CLASSIFIED, "log_end": log_end, "tokens": float(well.mean())}
    for loss, end in (("ce", None), ("el", log_end)):
        size = gradient_size(prob, end)
        shares[loss] = float(size[well].sum() / size.sum())
    return shares
