"""The encouraging loss of rows in plain PyTorch, on any device: its options, and its formula.

The tests compare the kernels with it. It also computes what the kernels cannot: second derivatives,
forward mode, transforms of functions, tracing, compilation, tensors without their own memory.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# With log_end = 1, 1 - p is clamped to this minimum, as in the authors' code. Beyond it, the bonus
# is constant and its gradient 0.
FLOOR = 1e-5


class Spec(NamedTuple):
    """The options of the loss: those of :func:`el_fairseq.encouraging_loss`."""

    log_end: float = 0.5
    label_smoothing: float = 0.0
    ignore_index: int = -100
    reduction: str = "mean"
    bonus_start: float = 0.0
    bonus_weight: float = 1.0
    base_loss: str = "ce"
    inplace_backward: bool = False

    def bonus(self, p, q):
        """``b(p)`` in nats, never positive. ``q = 1 - p`` is an argument for its precision."""
        if self.log_end == 1:
            value = q.clamp(min=FLOOR).log()
        else:
            end = 1 - self.log_end
            value = torch.where(q > end, q.clamp(min=end).log(), q / end - 1 + math.log(end))
        if self.bonus_start:
            value = (value - math.log1p(-self.bonus_start)).masked_fill(p < self.bonus_start, 0)
        return value


class RowLosses(NamedTuple):
    """Results of each row, each (N,).

    ``loss`` (times the row's factor) and ``nll`` (negative log-likelihood) are in nats, float64 for
    float64 logits and float32 otherwise. ``correct``: whether the first of the largest logits is
    the target's; unspecified where the loss is NaN. For an ignored target: 0, 0 and false.
    """

    loss: Tensor
    nll: Tensor
    correct: Tensor


def number_type(logits):
    """The dtype in which losses of these logits are computed."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def rows_of(entries, classes):
    """The number of rows with this many entries in all; at least one."""
    return max(1, entries // max(classes, 1))


def in_blocks(row_losses, like, step):
    """Losses of the rows of ``like``, by ``row_losses(block)`` for slices of ``step`` rows."""
    rows = len(like)
    types = number_type(like), number_type(like), torch.bool
    # Allocated before the blocks: results between their buffers would fragment the memory.
    results = RowLosses(*(like.new_empty(rows, dtype=dtype) for dtype in types))
    for first in range(0, rows, step):
        block = slice(first, min(first + step, rows))
        for result, of_block in zip(results, row_losses(block)):
            result[block] = of_block
    return results


def row_losses(logits, target, spec, scale, gradient=None, class_weight=None):
    """Losses of rows times ``scale``, and the gradient of their sum.

    Args:
        logits: (N, V), floating point; float16 and bfloat16 are computed in float32.
        target: (N,) int64, in [0, V) or ``spec.ignore_index``. This is not checked.
        spec: :class:`Spec`.
        scale: (N,), of the loss's dtype and any stride.
        gradient: (N, V), contiguous, of the logits' dtype, to be filled with the gradient, or
            ``None``. It may be ``logits`` itself.
        class_weight: (V,) of the loss's dtype, or ``None``.

    Returns:
        :class:`RowLosses`.
    """

    def of_block(block):
        is_wanted = gradient is not None
        rows = logits[block].detach().requires_grad_(is_wanted)
        with torch.set_grad_enabled(is_wanted):
            loss, *others = losses(rows, target[block], spec, class_weight)
            loss = loss * scale[block]
            if is_wanted:
                (gradient[block],) = torch.autograd.grad(loss.sum(), rows)
        return RowLosses(*(each.detach() for each in (loss, *others)))

    step = rows_of(2**22 if logits.is_cuda else 2**18, logits.size(1))
    return in_blocks(of_block, logits, step)


def losses(logits, target, spec, class_weight=None):
    """:class:`RowLosses` by the formula, differentiable as often as wanted; as above."""
    eps, counts = spec.label_smoothing, (target != spec.ignore_index).unsqueeze(1)
    target = target.unsqueeze(1).masked_fill(~counts, 0)
    logits = logits.to(number_type(logits)).masked_fill(~counts, 0)
    logits = logits if logits.size(1) else F.pad(logits, (0, 1))  # no target counts
    shifted = logits - logits.detach().amax(1, keepdim=True)
    exps = shifted.exp()
    is_largest = exps == 1
    below = exps.masked_fill(is_largest, 0).sum(1, keepdim=True)
    largest = exps.masked_fill(~is_largest, 0).sum(1, keepdim=True)
    rest = below + (largest - 1)
    log_p, p = shifted - rest.log1p(), exps / (1 + rest)
    # The q of a single largest entry does not contain its own exponential. Otherwise autograd
    # would add and subtract it, and divide the rounding error by q.
    q = torch.where(is_largest & (largest == 1), below, rest + (1 - exps)) / (1 + rest)
    of_classes = -log_p
    if spec.base_loss == "mse":  # the same for every class (appendix of the paper)
        y = torch.zeros_like(p).scatter(1, target, 1)
        squares = (y - p) ** 2 - spec.bonus_weight * (y - q) ** 2
        of_classes = squares.mean(1, keepdim=True).expand_as(p)
    elif spec.bonus_weight:
        of_classes = of_classes + spec.bonus_weight * spec.bonus(p, q)
    if class_weight is not None:
        of_classes = class_weight * of_classes
    loss = (1 - eps) * of_classes.gather(1, target)
    if eps:
        loss = loss + eps * of_classes.mean(1, keepdim=True)
    results = loss, -log_p.gather(1, target), logits.argmax(1, keepdim=True) == target
    return RowLosses(*(each.masked_fill(~counts, 0).squeeze(1) for each in results))
