"""The rows' losses and gradient in plain PyTorch, on any device: the formula itself.

It is what the kernels are compared with, and serves where they cannot: second derivatives,
forward mode, transforms of functions, tracing, compilation, tensors without memory of their own.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 2**22  # entries of a temporary matrix


class RowLosses(NamedTuple):
    """Results a row, each (N,): loss and negative log-likelihood in nats, 0 where the target is
    ignored, float64 for float64 logits and float32 otherwise; whether the target has the largest
    logit, never where it is ignored."""

    loss: Tensor
    nll: Tensor
    hit: Tensor

    @classmethod
    def empty(cls, logits):
        """Uninitialised, for logits (N, V)."""
        loss = torch.empty(logits.size(0), dtype=number_type(logits), device=logits.device)
        return cls(loss, torch.empty_like(loss), torch.empty_like(loss, dtype=torch.bool))


def number_type(logits):
    """The dtype in which losses of these logits are computed."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def differentiable_losses(logits, target, spec, class_weight=None):
    """:class:`RowLosses` as in :func:`row_losses`, differentiable as often as wanted."""
    rows = _Rows(logits, target, spec, class_weight)
    return rows.losses()


def row_losses(logits, target, spec, scale=None, gradient=None, class_weight=None):
    """Losses of rows, and the gradient of ``sum(scale * loss)`` in closed form, without autograd.

    Args:
        logits: (N, V), floating point; float16 and bfloat16 are computed in float32.
        target: (N,) int64, in [0, V) or ``spec.ignore_index``. Not checked.
        spec: :class:`~el_fairseq.ops.bonus.Spec`.
        scale: of the loss's dtype, (N,) or (); needed for a gradient.
        gradient: (N, V) of the logits' dtype, to be filled with the gradient, or ``None``; it may
            be ``logits`` itself.
        class_weight: (V,) of the loss's dtype, or ``None``.

    Returns:
        :class:`RowLosses`.
    """
    results = RowLosses.empty(logits)
    step = max(1, BLOCK // max(1, logits.size(1)))
    for first in range(0, logits.size(0), step):
        block = slice(first, first + step)
        rows = _Rows(logits[block], target[block], spec, class_weight)
        for result, of_block in zip(results, rows.losses()):
            result[block] = of_block
        if gradient is not None:
            factor = scale[block].unsqueeze(1) if scale.dim() else scale
            gradient[block] = rows.gradient() * factor
    return results


class _Rows:
    """Rows of probabilities with what is made of them; matrices are (N, V), columns (N, 1)."""

    def __init__(self, logits, target, spec, class_weight):
        target = target.unsqueeze(1)
        self.spec, self.class_weight = spec, class_weight
        self.counts = target != spec.ignore_index
        self.target = torch.where(self.counts, target, torch.zeros_like(target))
        self.classes = logits.size(1)
        if not self.classes:  # no target counts
            logits = torch.nn.functional.pad(logits, (0, 1))
        logits = logits.to(number_type(logits)).masked_fill(~self.counts, 0)
        self.top = logits.detach().argmax(1, keepdim=True)
        shifted = logits - logits.gather(1, self.top)
        exps = shifted.exp()
        rest = exps.scatter(1, self.top, 0).sum(1, keepdim=True)
        rest = rest + shifted.gather(1, self.top)  # 0, or NaN where that is infinite
        self.log_p = shifted - rest.log1p()
        self.p = exps / (1 + rest)
        self.q = (1 - self.p).scatter(1, self.top, rest / (1 + rest))

    def losses(self):
        eps = self.spec.label_smoothing
        goal = [each.gather(1, self.target) for each in (self.log_p, self.p, self.q)]
        loss = (1 - eps) * self._weighted(self._loss(*goal), self.target)
        if eps:
            of_classes = self._loss(self.log_p, self.p, self.q)
            loss = loss + eps * self._weighted(of_classes).mean(1, keepdim=True)
        results = (
            loss.masked_fill(~self.counts, 0),
            -goal[0].masked_fill(~self.counts, 0),
            (self.target == self.top) & self.counts,
        )
        return RowLosses(*(result.squeeze(1) for result in results))

    def gradient(self):
        eps = self.spec.label_smoothing
        h = self._weighted(1 + self.spec.bonus.weight * self.spec.bonus.pull(self.p, self.q))
        qh = h * (eps / self.p.size(1))
        qh.scatter_add_(1, self.target, (1 - eps) * h.gather(1, self.target))
        of_top = qh.gather(1, self.top)
        of_others = qh.scatter(1, self.top, 0).sum(1, keepdim=True)
        gradient = self.p * (of_top + of_others) - qh
        # Without the difference of two large numbers that it is near p = 1.
        top_p, top_q = self.p.gather(1, self.top), self.q.gather(1, self.top)
        gradient.scatter_(1, self.top, top_p * of_others - top_q * of_top)
        return gradient.masked_fill_(~self.counts, 0)[:, : self.classes]

    def _loss(self, log_p, p, q):
        """What the loss would be of a target with these probabilities."""
        weight = self.spec.bonus.weight
        return weight * self.spec.bonus.value(p, q) - log_p if weight else -log_p

    def _weighted(self, of_classes, index=None):
        if self.class_weight is None:
            return of_classes
        return of_classes * (self.class_weight if index is None else self.class_weight[index])
