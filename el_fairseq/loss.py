"""The encouraging loss as a function and a module of tensors.

Source: Zhao et al., "Well-classified Examples are Underestimated in Classification with Deep
Neural Networks", AAAI 2022, arXiv 2110.06537, section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

# Where the log curve runs to the end (log_end = 1), 1 - p is floored here, as in the authors'
# code: beyond, the bonus and its gradient are flat.
BONUS_FLOOR = 1e-5


def check_options(log_end, label_smoothing):
    """Raise ``ValueError`` unless 0 < ``log_end`` <= 1 and 0 <= ``label_smoothing`` < 1."""
    if not 0 < log_end <= 1:
        raise ValueError(
            f"log_end is {log_end}, expected a number in (0, 1]: "
            "0.5 is safe everywhere, 1 is the unbounded bonus"
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"label_smoothing is {label_smoothing}, expected a number in [0, 1): 0.1 is customary"
        )


def bonus(log_probs, log_end):
    """Bonus ``b(p)`` of log-probabilities of any shape, in nats; never positive."""
    probs = log_probs.exp()
    if log_end == 1:
        return (1 - probs).clamp(min=BONUS_FLOOR).log()
    curve = torch.log1p(-probs.clamp(max=log_end))
    return curve - (probs - log_end).clamp(min=0) / (1 - log_end)


def encouraging_loss_of_rows(logits, target, log_end, label_smoothing, ignore_index):
    """Loss and negative log-likelihood of each row.

    ``logits`` (N, V), ``target`` (N,); returns two tensors (N,) in nats, zero where the target
    is ``ignore_index``. Label smoothing in PyTorch's convention. Nothing is checked.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    log_probs = F.log_softmax(logits, dim=-1)
    ignored = target == ignore_index
    index = target.masked_fill(ignored, 0).unsqueeze(-1)
    target_log_probs = log_probs.gather(-1, index).squeeze(-1)
    loss = bonus(target_log_probs, log_end) - target_log_probs
    if label_smoothing:
        smooth = (bonus(log_probs, log_end) - log_probs).mean(-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * smooth
    return loss.masked_fill(ignored, 0), (-target_log_probs).masked_fill(ignored, 0)


def encouraging_loss(
    logits, target, *, log_end=0.5, label_smoothing=0.0, ignore_index=-100, reduction="mean"
):
    """Encouraging loss: cross-entropy plus a bonus for what is already right.

    ``sum_k q_k * (-log p_k + b(p_k))`` with ``p`` the softmax of ``logits`` and
    ``q = (1 - label_smoothing) * onehot(target) + label_smoothing / V``. The bonus ``b(p)`` is
    ``log(1 - p)`` up to ``p = log_end`` and its tangent from there on (section 3 of the paper).
    Without the bonus this is :func:`torch.nn.functional.cross_entropy`, for which it is a
    drop-in.

    Args:
        logits: floating point, (V,), (N, V) or (N, V, d1, ...), as for ``F.cross_entropy``.
        target: class indices (int64) in [0, V) or ``ignore_index``; (), (N,) or (N, d1, ...).
        log_end: where the log curve ends, in (0, 1]. 0.5 is safe everywhere, 0.75 suits tasks
            where most targets are already predicted right, 1 is the normal bonus, unbounded.
        label_smoothing: in [0, 1), PyTorch's convention.
        ignore_index: target value that contributes neither loss nor gradient.
        reduction: ``"mean"`` over the targets that are not ignored (0 where all are), ``"sum"``
            or ``"none"`` (shape of ``target``).

    Returns:
        The loss in nats, in the dtype of the logits (float32 for float16 and bfloat16).

    Raises:
        ValueError: an argument outside what is said above; the message names it.
    """
    check_options(log_end, label_smoothing)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
    rows = _rows(logits, target)
    flat_target = target.reshape(-1)
    _check_classes(flat_target, rows.size(-1), ignore_index)
    loss, _ = encouraging_loss_of_rows(rows, flat_target, log_end, label_smoothing, ignore_index)
    if reduction == "none":
        return loss.view(target.shape)
    if reduction == "sum":
        return loss.sum()
    return loss.sum() / (flat_target != ignore_index).sum().clamp(min=1)


class EncouragingLoss(nn.Module):
    """Module form of :func:`encouraging_loss`, a drop-in for ``nn.CrossEntropyLoss``."""

    def __init__(self, *, log_end=0.5, label_smoothing=0.0, ignore_index=-100, reduction="mean"):
        super().__init__()
        check_options(log_end, label_smoothing)
        self.log_end = log_end
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, logits, target):
        return encouraging_loss(
            logits,
            target,
            log_end=self.log_end,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def extra_repr(self):
        return (
            f"log_end={self.log_end}, label_smoothing={self.label_smoothing}, "
            f"ignore_index={self.ignore_index}, reduction={self.reduction!r}"
        )


def _rows(logits, target):
    """Logits as (rows, V), rows in the order of ``target.reshape(-1)``."""
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}, expected floating point")
    if target.dtype != torch.int64:
        raise ValueError(
            f"target is {target.dtype}, expected int64 class indices (not probabilities)"
        )
    if logits.dim() == 0:
        raise ValueError("logits have no dimensions, expected (V,), (N, V) or (N, V, d1, ...)")
    classes_last = logits if logits.dim() == 1 else logits.movedim(1, -1)
    if classes_last.shape[:-1] != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(classes_last.shape[:-1])} "
            f"for logits of shape {tuple(logits.shape)}"
        )
    return classes_last.reshape(math.prod(target.shape), classes_last.size(-1))


def _check_classes(target, classes, ignore_index):
    # On an accelerator the check would wait for the device; its kernels assert by themselves.
    if target.device.type != "cpu":
        return
    wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
    if wrong.any():
        raise ValueError(
            f"target holds class {target[wrong][0].item()}, expected 0 to {classes - 1} "
            f"or ignore_index ({ignore_index})"
        )
