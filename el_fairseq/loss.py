"""The encouraging loss as functions and a module of tensors.

Source: Zhao et al., "Well-classified Examples are Underestimated in Classification with Deep
Neural Networks", AAAI 2022, arXiv 2110.06537, section 3.
"""

import math
from numbers import Integral, Real
from typing import Any, Dict, Literal, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops.autograd import loss_of_hidden, loss_of_rows
from .ops.bonus import Bonus, Spec
from .ops.rows import count, have_memory

BASE_LOSSES = ("ce", "mse")
BaseLoss = Literal["ce", "mse"]
Reduction = Literal["mean", "sum", "none"]


def checked_spec(
    log_end: float = 0.5,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    bonus_start: float = 0.0,
    bonus_weight: float = 1.0,
    base_loss: BaseLoss = "ce",
    reduction: Reduction = "mean",
    inplace_backward: bool = False,
) -> Spec:
    """The options as the kernels take them.

    Raises:
        TypeError, ValueError: an option of another type or out of its range, by name and value.
    """
    for name, value, kind, expected in (
        ("log_end", log_end, Real, "a number in (0, 1]"),
        ("label_smoothing", label_smoothing, Real, "a number in [0, 1)"),
        ("bonus_start", bonus_start, Real, "a number in [0, log_end)"),
        ("bonus_weight", bonus_weight, Real, "a number, 0 or more"),
        ("ignore_index", ignore_index, Integral, "a whole number"),
        ("inplace_backward", inplace_backward, bool, "True or False"),
    ):
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise TypeError(f"{name} is {value!r}, expected {expected}")
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
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
    if not 0 < log_end <= 1:
        raise ValueError(
            f"log_end is {log_end}, expected a number in (0, 1]: "
            "0.5 is safe everywhere, 1 is the unbounded bonus"
        )
    if not 0 <= bonus_start < log_end:
        raise ValueError(
            f"bonus_start is {bonus_start}, expected 0 (a bonus for every token) or more, and "
            f"less than log_end ({log_end})"
        )
    if not 0 <= bonus_weight < math.inf:
        raise ValueError(
            f"bonus_weight is {bonus_weight}, expected 0 (no bonus) or more: 1 is the paper's"
        )
    return Spec(Bonus(log_end, bonus_start, bonus_weight), label_smoothing, ignore_index)


def encouraging_loss(
    logits: Tensor,
    target: Tensor,
    *,
    log_end: float = 0.5,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    bonus_start: float = 0.0,
    bonus_weight: float = 1.0,
    base_loss: BaseLoss = "ce",
    weight: Optional[Tensor] = None,
    inplace_backward: bool = False,
) -> Tensor:
    """Encouraging loss: cross-entropy plus a bonus for what is already right.

    ``sum_k q_k * (-log p_k + bonus_weight * b(p_k))`` with ``p`` the softmax of ``logits`` and
    ``q = (1 - label_smoothing) * onehot(target) + label_smoothing / V``. The bonus ``b(p)`` is
    ``log(1 - p)`` up to ``p = log_end`` and its tangent from there on (section 3 of the paper).
    Without the bonus this is :func:`torch.nn.functional.cross_entropy`, for which it is a
    drop-in: under autocast, activation checkpoints, ``torch.compile``, ``torch.jit.trace``,
    ``torch.func`` and forward mode, and its gradient can be differentiated again. The gradient is
    computed with the loss, and takes the only memory of the logits' size.

    The loss goes below zero: its lower bound, at ``p = 1`` and without label smoothing, is
    ``bonus_weight * (log(1 - log_end) - 1)`` nats, -1.69 at log end 0.5, and
    ``bonus_weight * log(1e-5)``, -11.5, at log end 1 (``-bonus_weight`` for ``"mse"``).

    Args:
        logits: floating point, (V,), (N, V) or (N, V, d1, ...), as for ``F.cross_entropy``;
            float16 and bfloat16 are computed in float32.
        target: class indices (int64 or uint8) in [0, V) or ``ignore_index``; (), (N,) or
            (N, d1, ...).
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
        weight: (V,), how much each class counts, as for ``F.cross_entropy``: a factor of
            ``q_k``, and ``"mean"`` divides by the sum of the targets' weights.
        inplace_backward: the gradient takes the place of the logits, which are lost, and needs no
            memory. Only for logits that nothing else reads: where an operation has saved them
            autograd refuses, but other views of them show the gradient. They must be the result
            of an operation, and the gradient cannot be differentiated again.

    Returns:
        The loss in nats, float64 for float64 logits and float32 otherwise.

    Raises:
        TypeError, ValueError: an argument outside what is said above; the message names it.
    """
    spec = checked_spec(
        *(log_end, label_smoothing, ignore_index, bonus_start, bonus_weight),
        *(base_loss, reduction, inplace_backward),
    )
    _check_tensors(logits=logits, target=target)
    target = _indices(logits, target)
    rows = _rows(logits, target)
    _check_weight("weight", weight, rows.size(-1))
    if inplace_backward and logits.is_leaf and logits.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "inplace_backward is True for logits that are a leaf, such as a parameter, which would "
            "be lost: leave it out"
        )
    flat_target = target.reshape(-1)
    if base_loss == "mse":
        loss = mean_squared_error(rows, flat_target, bonus_weight, ignore_index, reduction, weight)
    else:
        loss, _, _ = loss_of_rows(rows, flat_target, spec, reduction, inplace_backward, weight)
    return loss.view(target.shape) if reduction == "none" else loss


def linear_encouraging_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Optional[Tensor] = None,
    *,
    log_end: float = 0.5,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    bonus_start: float = 0.0,
    bonus_weight: float = 1.0,
    class_weight: Optional[Tensor] = None,
) -> Tensor:
    """Encouraging loss of the logits ``F.linear(hidden, weight, bias)``, never held as a whole.

    Equals ``encouraging_loss(F.linear(hidden, weight, bias), target, ...)`` for hidden states of
    shape (..., D) and a target of shape (...), in memory that does not grow with N x V: the
    projection, the loss and all gradients are computed in one pass over blocks of rows. (Float16,
    whose gradients need the loss scale, and ``reduction="none"`` take a second pass in backward.)

    Args:
        hidden: (..., D), floating point.
        weight: (V, D), of the same dtype (autocast makes it so).
        target: (...), class indices (int64 or uint8) in [0, V) or ``ignore_index``.
        bias: (V,) or ``None``.
        class_weight: (V,), the ``weight`` of :func:`encouraging_loss`.

    The other arguments, the result and the errors are those of :func:`encouraging_loss`.
    """
    spec = checked_spec(
        log_end, label_smoothing, ignore_index, bonus_start, bonus_weight, reduction=reduction
    )
    _check_tensors(hidden=hidden, weight=weight, target=target)
    if bias is not None:
        _check_tensors(bias=bias)
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
    target = _indices(hidden, target)
    _check_weight("class_weight", class_weight, weight.size(0))
    flat_target = target.reshape(-1)
    flat_hidden = hidden.reshape(-1, hidden.size(-1))
    loss, _, _ = loss_of_projection(
        flat_hidden, weight, bias, flat_target, spec, reduction, class_weight
    )
    return loss.view(target.shape) if reduction == "none" else loss


def loss_of_projection(
    hidden: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    target: Tensor,
    spec: Spec,
    reduction: Reduction,
    class_weight: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    """:func:`~el_fairseq.ops.autograd.loss_of_hidden` in the dtype that autocast asks for."""
    device = hidden.device.type
    if device == "cpu" and torch.is_autocast_cpu_enabled():
        dtype = torch.get_autocast_cpu_dtype()
    elif device == "cuda" and torch.is_autocast_enabled():
        dtype = torch.get_autocast_gpu_dtype()
    else:
        dtype = hidden.dtype
    bias = None if bias is None else bias.to(dtype)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    return loss_of_hidden(hidden, weight, bias, target, spec, reduction, class_weight)


def mean_squared_error(
    logits: Tensor,
    target: Tensor,
    bonus_weight: float,
    ignore_index: int,
    reduction: Reduction,
    class_weight: Optional[Tensor] = None,
) -> Tensor:
    """Mean squared error of the softmax with its mirrored bonus (appendix of the paper).

    ``mean_k (y_k - p_k)^2 - bonus_weight * mean_k (y_k - (1 - p_k))^2`` with ``y`` the one-hot
    target; ``logits`` (N, V), ``target`` (N,).

    Raises:
        ValueError: a target on the CPU is neither a class nor ignored.
    """
    if have_memory(logits, target):
        count(target, logits.size(-1), Spec(Bonus(), 0.0, ignore_index))
    ignored = target == ignore_index
    if not logits.size(-1):  # no target counts
        logits = F.pad(logits, (0, 1))
    logits = logits.masked_fill(ignored.unsqueeze(-1), 0)  # 0 times NaN would be its gradient
    probs = F.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    onehot = F.one_hot(target.masked_fill(ignored, 0), logits.size(-1)).to(probs.dtype)
    squares = (onehot - probs) ** 2 - bonus_weight * (onehot - (1 - probs)) ** 2
    counts = (~ignored).to(probs.dtype)
    if class_weight is not None:
        counts = counts * class_weight[target.masked_fill(ignored, 0)]
    losses = squares.mean(-1).masked_fill(ignored, 0) * counts
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = counts.sum()
    return losses.sum() / total.where(total != 0, torch.ones_like(total))


class EncouragingLoss(nn.Module):
    """Module form of :func:`encouraging_loss`, a drop-in for ``nn.CrossEntropyLoss``."""

    weight: Optional[Tensor]

    def __init__(
        self,
        *,
        log_end: float = 0.5,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        bonus_start: float = 0.0,
        bonus_weight: float = 1.0,
        base_loss: BaseLoss = "ce",
        weight: Optional[Tensor] = None,
        inplace_backward: bool = False,
    ) -> None:
        super().__init__()
        self.options: Dict[str, Any] = {
            "log_end": log_end,
            "label_smoothing": label_smoothing,
            "ignore_index": ignore_index,
            "bonus_start": bonus_start,
            "bonus_weight": bonus_weight,
            "base_loss": base_loss,
            "reduction": reduction,
            "inplace_backward": inplace_backward,
        }
        checked_spec(**self.options)
        if weight is not None:
            _check_tensors(weight=weight)
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, target: Tensor, **others: Any) -> Tensor:
        if others:
            raise TypeError(
                f"EncouragingLoss takes logits and target, not {', '.join(others)}: for the "
                "Trainer of transformers, compute_loss_func is el_fairseq.integrations."
                "transformers.encouraging_loss_func()"
            )
        return encouraging_loss(logits, target, weight=self.weight, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def _check_tensors(**tensors: Any) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is {type(value).__name__}, expected a tensor")


def _check_weight(name: str, weight: Optional[Tensor], classes: int) -> None:
    if weight is None:
        return
    _check_tensors(**{name: weight})
    if weight.shape != (classes,):
        raise ValueError(
            f"{name} has shape {tuple(weight.shape)}, expected ({classes},): one a class"
        )


def _indices(scores: Tensor, target: Tensor) -> Tensor:
    """Targets in int64."""
    if not scores.is_floating_point():
        raise ValueError(f"logits are {scores.dtype}, expected floating point")
    if target.is_floating_point():
        raise ValueError(
            f"target is {target.dtype}, expected int64 class indices: for soft targets "
            "(probabilities) take F.cross_entropy, which has no bonus, or label_smoothing here"
        )
    if target.dtype not in (torch.int64, torch.uint8):
        raise ValueError(
            f"target is {target.dtype}, expected int64 class indices: convert it by target.long()"
        )
    return target.long()


def _rows(logits: Tensor, target: Tensor) -> Tensor:
    """Logits as (rows, V), rows in the order of ``target.reshape(-1)``."""
    if logits.dim() == 0:
        raise ValueError("logits have no dimensions, expected (V,), (N, V) or (N, V, d1, ...)")
    classes_last = logits if logits.dim() <= 2 else logits.movedim(1, -1)
    if classes_last.shape[:-1] != target.shape:
        cure = ""
        if logits.dim() > 2 and logits.shape[:-1] == target.shape:
            cure = (
                ", whose classes are in dimension 1 as for F.cross_entropy: where they are in the "
                f"last, pass logits.flatten(0, {logits.dim() - 2}) and target.flatten(), or "
                "logits.movedim(-1, 1)"
            )
        elif logits.dim() == 2 and len(logits) == target.numel():
            cure = ": pass target.flatten()"
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(classes_last.shape[:-1])} "
            f"for logits of shape {tuple(logits.shape)}{cure}"
        )
    if logits.dim() == 2:
        return logits
    return classes_last.reshape(math.prod(target.shape), classes_last.size(-1))
