"""The encouraging loss as functions of tensors and as a module.

Source: Zhao et al., "Well-classified Examples are Underestimated in Classification with Deep
Neural Networks", AAAI 2022, arXiv 2110.06537, section 3.
"""

import math
from numbers import Integral, Real
from typing import Any, Literal, Optional, Tuple, get_args

import torch
from torch import Tensor, nn

from .ops.function import loss_of
from .ops.reference import Spec

BaseLoss = Literal["ce", "mse"]
Reduction = Literal["mean", "sum", "none"]
BASE_LOSSES, REDUCTIONS = get_args(BaseLoss), get_args(Reduction)
# Of each option of a Spec: name, types, whether a value is allowed, what is expected.
# A check by float is quicker than by Real, and a small loss takes little longer than its checks.
_REAL, _ANY = (float, Real), object
_RANGES = (
    ("log_end", _REAL, lambda x, _: 0 < x <= 1, "a number in (0, 1]"),
    ("label_smoothing", _REAL, lambda x, _: 0 <= x < 1, "a number in [0, 1)"),
    ("ignore_index", (int, Integral), lambda *_: True, "a whole number"),
    ("reduction", _ANY, lambda x, _: x in REDUCTIONS, "'mean', 'sum' or 'none'"),
    ("bonus_start", _REAL, lambda x, spec: 0 <= x < spec.log_end, "a number in [0, log_end)"),
    ("bonus_weight", _REAL, lambda x, _: 0 <= x < math.inf, "a number, 0 or more"),
    ("base_loss", _ANY, lambda x, _: x in BASE_LOSSES, "'ce' or 'mse'"),
    ("inplace_backward", bool, lambda *_: True, "True or False"),
)


def checked_spec(*options: Any, **named: Any) -> Spec:
    """The options as a :class:`~el_fairseq.ops.reference.Spec`.

    Raises:
        ValueError: an option has a wrong type or is out of its range; the message names it and
            its value.
    """
    spec = Spec(*options, **named)
    for name, kind, is_allowed, expected in _RANGES:
        value = getattr(spec, name)
        is_kind = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if not is_kind or not is_allowed(value, spec):
            raise ValueError(f"{name} is {value!r}, expected {expected}")
    if spec.base_loss == "mse" and (spec.label_smoothing or spec.bonus_start):
        raise ValueError(
            "base_loss 'mse' is defined without label smoothing and bonus start, which are "
            f"{spec.label_smoothing} and {spec.bonus_start}: set both to 0"
        )
    return spec


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
    """Encouraging loss: cross-entropy plus a bonus for tokens that are already right.

    ``sum_k q_k * (-log p_k + bonus_weight * b(p_k))`` with ``p`` the softmax of ``logits`` and
    ``q = (1 - label_smoothing) * onehot(target) + label_smoothing / V``. The bonus ``b(p)`` is
    ``log(1 - p)`` up to ``p = log_end`` and its tangent from there on (section 3 of the paper).
    Without the bonus this is :func:`torch.nn.functional.cross_entropy`. It is a drop-in replacement
    for it, also under autocast, ``torch.compile`` and ``torch.func``, and its gradient can be
    differentiated again. Beyond the logits it takes the memory of the gradient, and of a copy of
    logits with more than two dimensions (and more for ``"mse"``).

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
            mirrored bonus ``-(onehot - (1 - p))^2``; of the options only ``bonus_weight`` applies.
        weight: (V,), how much each class counts, as for ``F.cross_entropy``: a factor of
            ``q_k``, and ``"mean"`` divides by the sum of the targets' weights.
        inplace_backward: the gradient overwrites the logits and needs no memory of its own. Only
            for logits that nothing else reads: if an operation has saved them, autograd refuses,
            but other views of them show the gradient. They must be the result of an operation,
            and the gradient cannot be differentiated again.

    Returns:
        The loss in nats, float64 for float64 logits and float32 otherwise.

    Raises:
        TypeError, ValueError: an argument is not as described above; the message names it.
    """
    spec = checked_spec(
        *(log_end, label_smoothing, ignore_index, reduction, bonus_start, bonus_weight),
        *(base_loss, inplace_backward),
    )
    return _loss_of_logits(logits, target, weight, spec)


def _loss_of_logits(logits: Tensor, target: Tensor, weight: Optional[Tensor], spec: Spec) -> Tensor:
    _check_types(target, logits=logits, weight=weight)
    rows, target_of_rows = _rows(logits, target)
    if weight is not None:
        _check_shapes(f"logits of shape {tuple(logits.shape)}", weight=(weight, rows.shape[1:]))
    is_leaf = logits.is_leaf and logits.requires_grad and torch.is_grad_enabled()
    if spec.inplace_backward and is_leaf:
        raise ValueError(
            "inplace_backward is True for logits that are a leaf, such as a parameter, and would "
            "overwrite them: leave it out"
        )
    loss, _, _ = loss_of([rows], target_of_rows, spec, weight)
    return loss.view(target.shape) if spec.reduction == "none" else loss


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
    """Encouraging loss of the logits ``F.linear(hidden, weight, bias)``, without storing them all.

    Equals ``encouraging_loss(F.linear(hidden, weight, bias), target, ...)`` in memory that does not
    grow with N x V: the projection, the loss and all gradients are computed in one pass over blocks
    of rows. (Float16 and ``reduction="none"`` take a second pass in backward.)

    Args:
        hidden: (..., D), floating point.
        weight: (V, D), of the same dtype (autocast makes it so).
        target: (...), class indices (int64 or uint8) in [0, V) or ``ignore_index``.
        bias: (V,) or ``None``.
        class_weight: (V,), the ``weight`` of :func:`encouraging_loss`.

    The other arguments, the result and the errors are those of :func:`encouraging_loss`.
    """
    spec = checked_spec(
        log_end, label_smoothing, ignore_index, reduction, bonus_start, bonus_weight
    )
    _check_types(target, hidden=hidden, weight=weight, bias=bias, class_weight=class_weight)
    of_classes = weight.shape[:1]
    _check_shapes(
        f"hidden states of shape {tuple(hidden.shape)}",
        target=(target, hidden.shape[:-1]),
        weight=(weight, (*of_classes, hidden.size(-1))),
        bias=(bias, of_classes),
        class_weight=(class_weight, of_classes),
    )
    inputs = [hidden.reshape(-1, hidden.size(-1)), weight, bias]
    loss, _, _ = loss_of(inputs, target.long().reshape(-1), spec, class_weight)
    return loss.view(target.shape) if reduction == "none" else loss


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
        self.spec = checked_spec(
            *(log_end, label_smoothing, ignore_index, reduction, bonus_start, bonus_weight),
            *(base_loss, inplace_backward),
        )
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return _loss_of_logits(logits, target, self.weight, self.spec)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.spec._asdict().items())


def _check_types(target: Tensor, **tensors: Optional[Tensor]) -> None:
    """Check that target holds classes, and that the others are floating point or ``None``."""
    for name, tensor in (("target", target), *tensors.items()):
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is {type(tensor).__name__}, expected a tensor")
        if name != "target" and tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, expected floating point")
    if target.dtype not in (torch.int64, torch.uint8):
        raise ValueError(
            f"target is {target.dtype}, expected int64 class indices, as target.long() makes them "
            "(only F.cross_entropy, which has no bonus, takes probabilities)"
        )


def _check_shapes(scores: str, **tensors: Tuple[Optional[Tensor], Tuple[int, ...]]) -> None:
    for name, (tensor, shape) in tensors.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, expected {tuple(shape)} for {scores}"
            )


def _rows(logits: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
    """Logits (rows, V) and targets (rows,)."""
    if logits.dim() == 0:
        raise ValueError("logits have no dimensions, expected (V,), (N, V) or (N, V, d1, ...)")
    classes_last = logits if logits.dim() <= 2 else logits.movedim(1, -1)
    if classes_last.shape[:-1] != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, expected {tuple(classes_last.shape[:-1])} "
            f"for logits of shape {tuple(logits.shape)}: classes are in dimension 1, as for "
            "F.cross_entropy; if they are in the last, pass logits.flatten(0, -2) and "
            "target.flatten()"
        )
    flat_target = target.long().flatten()
    if logits.dim() == 2:
        return logits, flat_target
    return classes_last.reshape(len(flat_target), classes_last.size(-1)), flat_target
