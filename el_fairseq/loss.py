"""The encouraging loss as functions and a module of tensors.

Source: Zhao et al., "Well-classified Examples are Underestimated in Classification with Deep
Neural Networks", AAAI 2022, arXiv 2110.06537, section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .ops.autograd import loss_of_hidden, loss_of_rows
from .ops.bonus import Bonus, Spec

BASE_LOSSES = ("ce", "mse")


def checked_spec(
    log_end=0.5,
    label_smoothing=0.0,
    ignore_index=-100,
    bonus_start=0.0,
    bonus_weight=1.0,
    base_loss="ce",
):
    """The options as the kernels take them; raise ``ValueError`` naming one that is wrong."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"label_smoothing is {label_smoothing}, expected a number in [0, 1): 0.1 is customary"
        )
    if base_loss not in BASE_LOSSES:
        raise ValueError(f"base_loss is {base_loss!r}, expected 'ce' or 'mse'")
    if base_loss == "mse" and (label_smoothing or bonus_start):
        raise ValueError(
            f"base_loss 'mse' is defined without label smoothing and bonus start, which are "
            f"{label_smoothing} and {bonus_start}: set both to 0"
        )
    bonus = Bonus(log_end, bonus_start, bonus_weight).check()
    return Spec(bonus, label_smoothing, ignore_index)


def encouraging_loss(
    logits,
    target,
    *,
    log_end=0.5,
    label_smoothing=0.0,
    ignore_index=-100,
    reduction="mean",
    bonus_start=0.0,
    bonus_weight=1.0,
    base_loss="ce",
):
    """Encouraging loss: cross-entropy plus a bonus for what is already right.

    ``sum_k q_k * (-log p_k + bonus_weight * b(p_k))`` with ``p`` the softmax of ``logits`` and
    ``q = (1 - label_smoothing) * onehot(target) + label_smoothing / V``. The bonus ``b(p)`` is
    ``log(1 - p)`` up to ``p = log_end`` and its tangent from there on (section 3 of the paper).
    Without the bonus this is :func:`torch.nn.functional.cross_entropy`, for which it is a
    drop-in, at less cost: the gradient is computed with the loss, block by block, and takes the
    only memory of the logits' size. Like that function it works under ``torch.compile`` and
    autocast; its gradient cannot be differentiated again.

    Args:
        logits: floating point, (V,), (N, V) or (N, V, d1, ...), as for ``F.cross_entropy``;
            float16 and bfloat16 are computed in float32.
        target: class indices (int64) in [0, V) or ``ignore_index``; (), (N,) or (N, d1, ...).
        log_end: where the log curve ends, in (0, 1]. 0.5 is safe everywhere, 0.75 suits tasks
            where most targets are already predicted right, 1 is the normal bonus, unbounded
            (``1 - p`` is floored at 1e-5).
        label_smoothing: in [0, 1), PyTorch's convention.
        ignore_index: target value that contributes neither loss nor gradient.
        reduction: ``"mean"`` over the targets that are not ignored (0 where all are), ``"sum"``
            or ``"none"`` (shape of ``target``).
        bonus_start: no bonus below this probability, which is below ``log_end`` (aggressive
            bonus): ``log(1 - p) - log(1 - bonus_start)`` from there on.
        bonus_weight: factor of the bonus; 0 is cross-entropy.
        base_loss: ``"ce"``, or ``"mse"``: the mean over classes of ``(onehot - p)^2`` with its
            mirrored bonus ``-(onehot - (1 - p))^2``, where only ``bonus_weight`` applies.

    Returns:
        The loss in nats, float64 for float64 logits and float32 otherwise.

    Raises:
        ValueError: an argument outside what is said above; the message names it.
    """
    spec = checked_spec(
        log_end, label_smoothing, ignore_index, bonus_start, bonus_weight, base_loss
    )
    _check_reduction(reduction)
    rows = _rows(logits, target)
    flat_target = target.reshape(-1)
    if base_loss == "mse":
        loss = mean_squared_error(rows, flat_target, bonus_weight, ignore_index, reduction)
    else:
        loss, _, _ = loss_of_rows(rows, flat_target, spec, reduction)
    return loss.view(target.shape) if reduction == "none" else loss


def linear_encouraging_loss(
    hidden,
    weight,
    target,
    bias=None,
    *,
    log_end=0.5,
    label_smoothing=0.0,
    ignore_index=-100,
    reduction="mean",
    bonus_start=0.0,
    bonus_weight=1.0,
):
    """Encouraging loss of the logits ``F.linear(hidden, weight, bias)``, never held as a whole.

    Equals ``encouraging_loss(F.linear(hidden, weight, bias), target, ...)`` for hidden states of
    shape (..., D) and a target of shape (...), in memory that does not grow with N x V: the
    projection, the loss and all gradients are computed in one pass over blocks of rows.

    Args:
        hidden: (..., D), floating point.
        weight: (V, D), of the same dtype (autocast makes it so).
        target: (...), class indices (int64) in [0, V) or ``ignore_index``.
        bias: (V,) or ``None``.

    The other arguments, the result and the errors are those of :func:`encouraging_loss`;
    ``reduction="none"`` is for values alone, and refused where a gradient is required.
    """
    spec = checked_spec(log_end, label_smoothing, ignore_index, bonus_start, bonus_weight)
    _check_reduction(reduction)
    if hidden.shape[:-1] != target.shape or hidden.dim() == 0:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(hidden.shape[:-1])} for "
            f"hidden states of shape {tuple(hidden.shape)}"
        )
    if weight.dim() != 2 or weight.size(1) != hidden.size(-1):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, expected (V, {hidden.size(-1)}) for hidden "
            f"states of shape {tuple(hidden.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias has shape {tuple(bias.shape)}, expected {tuple(weight.shape[:1])} for a "
            f"weight of shape {tuple(weight.shape)}"
        )
    _check_dtypes(hidden, target)
    flat_target = target.reshape(-1)
    flat_hidden = hidden.reshape(-1, hidden.size(-1))
    loss, _, _ = loss_of_projection(flat_hidden, weight, bias, flat_target, spec, reduction)
    return loss.view(target.shape) if reduction == "none" else loss


def loss_of_projection(hidden, weight, bias, target, spec, reduction):
    """:func:`~el_fairseq.ops.autograd.loss_of_hidden` in the dtype that autocast asks for."""
    device = hidden.device.type
    if device == "cpu" and torch.is_autocast_cpu_enabled():
        dtype = torch.get_autocast_cpu_dtype()
    elif device == "cuda" and torch.is_autocast_enabled():
        dtype = torch.get_autocast_gpu_dtype()
    else:
        dtype = hidden.dtype
    bias = None if bias is None else bias.to(dtype)
    return loss_of_hidden(hidden.to(dtype), weight.to(dtype), bias, target, spec, reduction)


def mean_squared_error(logits, target, bonus_weight, ignore_index, reduction):
    """Mean squared error of the softmax with its mirrored bonus (appendix of the paper).

    ``mean_k (y_k - p_k)^2 - bonus_weight * mean_k (y_k - (1 - p_k))^2`` with ``y`` the one-hot
    target; ``logits`` (N, V), ``target`` (N,). Nothing is checked.
    """
    probs = F.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    ignored = target == ignore_index
    onehot = F.one_hot(target.masked_fill(ignored, 0), logits.size(-1)).to(probs.dtype)
    squares = (onehot - probs) ** 2 - bonus_weight * (onehot - (1 - probs)) ** 2
    losses = squares.mean(-1).masked_fill(ignored, 0)
    if reduction == "none":
        return losses
    return losses.sum() / (~ignored).sum().clamp(min=1) if reduction == "mean" else losses.sum()


class EncouragingLoss(nn.Module):
    """Module form of :func:`encouraging_loss`, a drop-in for ``nn.CrossEntropyLoss``."""

    def __init__(
        self,
        *,
        log_end=0.5,
        label_smoothing=0.0,
        ignore_index=-100,
        reduction="mean",
        bonus_start=0.0,
        bonus_weight=1.0,
        base_loss="ce",
    ):
        super().__init__()
        self.options = {
            "log_end": log_end,
            "label_smoothing": label_smoothing,
            "ignore_index": ignore_index,
            "bonus_start": bonus_start,
            "bonus_weight": bonus_weight,
            "base_loss": base_loss,
        }
        checked_spec(**self.options)
        _check_reduction(reduction)
        self.reduction = reduction

    def forward(self, logits, target):
        return encouraging_loss(logits, target, reduction=self.reduction, **self.options)

    def extra_repr(self):
        options = {**self.options, "reduction": self.reduction}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _check_reduction(reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")


def _check_dtypes(scores, target):
    if not scores.is_floating_point():
        raise ValueError(f"logits are {scores.dtype}, expected floating point")
    if target.dtype != torch.int64:
        raise ValueError(
            f"target is {target.dtype}, expected int64 class indices (not probabilities)"
        )


def _rows(logits, target):
    """Logits as (rows, V), rows in the order of ``target.reshape(-1)``."""
    _check_dtypes(logits, target)
    if logits.dim() == 0:
        raise ValueError("logits have no dimensions, expected (V,), (N, V) or (N, V, d1, ...)")
    classes_last = logits if logits.dim() == 1 else logits.movedim(1, -1)
    if classes_last.shape[:-1] != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(classes_last.shape[:-1])} "
            f"for logits of shape {tuple(logits.shape)}"
        )
    return classes_last.reshape(math.prod(target.shape), classes_last.size(-1))
