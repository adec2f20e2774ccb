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

    def slope(self, p, q):
        """``-p b'(p)``: minus the derivative of the bonus with respect to ``log p``; 0 or more."""
        if self.log_end == 1:
            return (p / q.clamp(min=FLOOR)).masked_fill((q < FLOOR) | (p < self.bonus_start), 0)
        return (p / q.clamp(min=1 - self.log_end)).masked_fill(p < self.bonus_start, 0)


class RowLosses(NamedTuple):
    """Results of each row, each (N,).

    ``loss`` and ``nll`` (negative log-likelihood) are in nats, 0 for an ignored target, float64 for
    float64 logits and float32 otherwise. ``correct``: whether the first of the largest logits is
    that of the target (NaN counts as the largest, as for ``argmax``); false for an ignored target.
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


def in_blocks(row_losses, entries, like, classes):
    """Losses of the rows of ``like``, by ``row_losses(block)`` for slices of ``entries`` logits."""
    rows, step = len(like), rows_of(entries, classes)
    types = number_type(like), number_type(like), torch.bool
    # Allocated before the blocks: results between their buffers would fragment the memory.
    results = RowLosses(*(like.new_empty(rows, dtype=dtype) for dtype in types))
    for first in range(0, rows, step):
        block = slice(first, min(first + step, rows))
        for result, of_block in zip(results, row_losses(block)):
            result[block] = of_block
    return results


def row_losses(logits, target, spec, scale, gradient=None, class_weight=None):
    """Losses of rows, and the gradient of ``sum(scale * loss)`` in closed form, without autograd.

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
        rows = Rows(logits[block], target[block], spec, class_weight)
        losses = rows.losses()
        if gradient is not None:
            gradient[block] = rows.gradient() * scale[block].unsqueeze(1)
        return losses

    return in_blocks(of_block, 2**22 if logits.is_cuda else 2**18, logits, logits.size(1))


class Rows:
    """Rows of probabilities with what is made of them; matrices are (N, V), columns (N, 1)."""

    def __init__(self, logits, target, spec: Spec, class_weight=None):
        self.spec, self.classes = spec, logits.size(1)
        self.counts = (target != spec.ignore_index).unsqueeze(1)
        self.target = target.unsqueeze(1).masked_fill(~self.counts, 0)
        if not self.classes:  # no target counts
            logits = F.pad(logits, (0, 1))
        logits = logits.to(number_type(logits)).masked_fill(~self.counts, 0)
        self.weight = 1 if class_weight is None else class_weight
        self.correct = logits.argmax(1, keepdim=True) == self.target
        shifted = logits - logits.detach().amax(1, keepdim=True)
        exps = shifted.exp()
        self.is_largest = exps == 1
        below, largest = self._sums(exps)
        rest = below + (largest - 1)
        self.log_p = shifted - rest.log1p()
        self.p = exps / (1 + rest)
        # The q of a single largest entry does not contain its own exponential. Otherwise autograd
        # would add and subtract it, and divide the rounding error by q.
        others = torch.where(self.is_largest & (largest == 1), below, rest + (1 - exps))
        self.q = others / (1 + rest)

    def losses(self):
        """:class:`RowLosses`, differentiable as often as wanted."""
        spec, eps = self.spec, self.spec.label_smoothing
        losses = -self.log_p
        if spec.base_loss == "mse":  # the same for every class (appendix of the paper)
            y = torch.zeros_like(self.p).scatter(1, self.target, 1)
            squares = (y - self.p) ** 2 - spec.bonus_weight * (y - self.q) ** 2
            losses = squares.mean(1, keepdim=True).expand_as(losses)
        elif spec.bonus_weight:
            losses = losses + spec.bonus_weight * spec.bonus(self.p, self.q)
        losses = self.weight * losses
        loss = (1 - eps) * losses.gather(1, self.target)
        if eps:
            loss = loss + eps * losses.mean(1, keepdim=True)
        results = loss, -self.log_p.gather(1, self.target), self.correct
        return RowLosses(*(each.masked_fill(~self.counts, 0).squeeze(1) for each in results))

    def gradient(self):
        """The gradient of the sum of the losses (``ce``) with respect to the logits."""
        eps = self.spec.label_smoothing
        h = self.weight * (1 + self.spec.bonus_weight * self.spec.slope(self.p, self.q))
        qh = h * (eps / self.p.size(1))
        qh.scatter_add_(1, self.target, (1 - eps) * h.gather(1, self.target))
        below, largest = self._sums(qh)
        gradient = self.p * (below + (largest - qh)) - self.q * qh
        return gradient.masked_fill_(~self.counts, 0)[:, : self.classes]

    def _sums(self, values):
        """Sums over a row of the values: without the largest entries, and of these alone."""
        return (
            values.masked_fill(self.is_largest, 0).sum(1, keepdim=True),
            values.masked_fill(~self.is_largest, 0).sum(1, keepdim=True),
        )
