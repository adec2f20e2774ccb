"""Loss and gradient of rows of logits together, in blocks, with one exponential an element.

With ``q_k`` the smoothed target distribution, ``p_k`` the probabilities, ``w`` the bonus's
weight, ``h_k = 1 - w p_k b'(p_k)`` and ``S = sum_k q_k h_k``, the gradient with respect to logit
``j`` is ``p_j S - q_j h_j``. On the log curve ``h = 1 - w + w / (1 - p)``, so the gradient needs
no logarithm, and the sum of ``log(1 - p_k)`` over a row needs one: that of the product.

The largest entry of a row is handled apart: its ``1 - p`` is the sum of the others, exact also
where ``p`` rounds to 1. No other entry exceeds one half, which keeps the product above 1/4.
"""

import functools
import math
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from .bonus import Bonus
from .memory import matrix_for_gradient


class Spec(NamedTuple):
    """What is computed of each row: the options of the loss, in PyTorch's convention."""

    bonus: Bonus
    label_smoothing: float
    ignore_index: int


class RowLosses(NamedTuple):
    """Results a row, each (N,): loss and negative log-likelihood in nats, 0 where ignored, and
    whether the target has the largest logit; ``gradient`` of the scaled sum of losses (N, V)."""

    loss: Tensor
    nll: Tensor
    hit: Tensor
    gradient: Optional[Tensor]


def block_rows(rows, classes, device):
    """How many rows are worked on at once.

    On the CPU a block has 2**18 elements a thread: 1 MiB of float32, what a core's second-level
    cache holds, and enough work to outweigh the dispatch of an operation. On other devices it is
    2**26 elements: a launch there costs as much as a pass over 2**20.
    """
    elements = 2**18 * torch.get_num_threads() if device.type == "cpu" else 2**26
    return max(1, min(rows, elements // max(classes, 1)))


def row_losses(logits, target, spec, scale=None, in_place=False):
    """Losses of rows, and the gradient of ``scale * sum(loss)`` where a scale is given.

    Args:
        logits: (N, V), floating point; float16 and bfloat16 are computed in float32.
        target: (N,) int64, in [0, V) or ``spec.ignore_index``. Not checked.
        scale: number, or tensor of one element; ``None`` for no gradient.
        in_place: the gradient takes the place of the logits, which are lost.

    Returns:
        :class:`RowLosses`; losses are float32 or float64, the gradient has the logits' dtype.
    """
    rows, classes = logits.shape
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    device = logits.device
    loss = torch.empty(rows, dtype=dtype, device=device)
    nll = torch.empty_like(loss)
    hit = torch.empty(rows, dtype=torch.bool, device=device)
    ignored = target == spec.ignore_index
    index = target.masked_fill(ignored, 0)
    gradient = None
    if scale is not None:
        gradient = logits if in_place else matrix_for_gradient(rows, classes, logits.dtype, device)
    if device.type == "cuda" and dtype == torch.float32 and _triton_rows() is not None:
        with torch.cuda.device(device):
            results = _triton_rows().row_losses_by_triton(logits, target, spec, scale, gradient)
        return RowLosses(*results, gradient)
    step = block_rows(rows, classes, device)
    direct = gradient is not None and gradient.dtype == dtype
    work = None if direct else torch.empty(step, classes, dtype=dtype, device=device)
    smoothed_bonus = spec.label_smoothing and spec.bonus.weight
    reciprocal = torch.empty(step if smoothed_bonus else 0, classes, dtype=dtype, device=device)
    any_ignored = device.type != "cpu" or bool(ignored.any())
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        count = block.stop - start
        exps = gradient[block] if direct else work[:count]
        loss[block], nll[block], hit[block] = _block(
            logits[block], index[block], spec, scale, exps, reciprocal[:count]
        )
        if gradient is not None:
            if any_ignored:
                exps.masked_fill_(ignored[block].unsqueeze(1), 0)
            if not direct:
                gradient[block] = exps
    loss.masked_fill_(ignored, 0)
    nll.masked_fill_(ignored, 0)
    hit.masked_fill_(ignored, False)
    return RowLosses(loss, nll, hit, gradient)


@functools.lru_cache(maxsize=None)
def _triton_rows():
    """The kernel for GPUs, or ``None`` where Triton is not installed."""
    try:
        from . import triton_rows
    except ImportError:
        return None
    return triton_rows


def _block(logits, target, spec, scale, exps, reciprocal):
    """One block: fills ``exps`` with the gradient where ``scale`` is given; both are overwritten.

    Returns loss, nll and hit of each row.
    """
    bonus, eps = spec.bonus, spec.label_smoothing
    classes = logits.size(1)
    share = eps / classes  # q of every class; the target has 1 - eps more
    target = target.unsqueeze(1)
    top_logit, top = logits.max(1, keepdim=True)
    if exps.dtype == logits.dtype:
        torch.sub(logits, top_logit, out=exps)
    else:
        exps.copy_(logits).sub_(top_logit)
    shifted_target = exps.gather(1, target)
    shifted_sum = exps.sum(1, keepdim=True) if eps else None

    exps.exp_().scatter_(1, top, 0)
    rest = exps.sum(1, keepdim=True)
    inverse = 1 / (1 + rest)
    log_sum = rest.log1p()
    top_p, top_q = inverse, rest * inverse
    is_top = target == top
    p = torch.where(is_top, top_p, exps.gather(1, target) * inverse)
    q = torch.where(is_top, top_q, 1 - p)
    nll = log_sum - shifted_target

    # of_X is q_k h_k of the target (without its share as a class), the top and all the others.
    of_target = torch.full_like(p, 1 - eps)
    of_top = torch.full_like(p, share)
    of_others = torch.full_like(p, share * (classes - 1))
    loss = nll * (1 - eps)
    if eps:
        loss += share * (classes * log_sum - shifted_sum)
    if bonus.weight:
        loss += (1 - eps) * bonus.weight * bonus.value(p, q)
        of_target *= 1 + bonus.weight * bonus.pull(p, q)
    if eps and bonus.weight:
        exps.mul_(inverse)
        inverse = torch.ones_like(inverse)
        value = _smoothed(exps, reciprocal, bonus) + bonus.value(top_p, top_q)
        loss += share * bonus.weight * value
        of_top *= 1 + bonus.weight * bonus.pull(top_p, top_q)
        of_others += share * bonus.weight * (reciprocal.sum(1, keepdim=True) - classes)

    if scale is not None:
        zero = torch.zeros_like(p)
        of_others += torch.where(is_top, zero, of_target)
        of_top += torch.where(is_top, of_target, zero)
        exps.mul_((of_others + of_top) * inverse * scale)
        if eps and bonus.weight:
            _subtract(exps, reciprocal, share * bonus.weight, scale)
        if eps and bonus.weight != 1:
            exps -= share * (1 - bonus.weight) * scale
        # p_top S - q_top h_top without the difference of two large numbers that it is near p = 1.
        exps.scatter_(1, top, (top_p * of_others - top_q * of_top) * scale)
        exps.scatter_add_(1, target, torch.where(is_top, zero, of_target * -scale))
    return loss.squeeze(1), nll.squeeze(1), is_top.squeeze(1)


def _smoothed(probs, reciprocal, bonus):
    """Sum of the bonus over a row's probabilities, (n, 1); ``reciprocal`` becomes 1 + pull."""
    torch.sub(1, probs, out=reciprocal)
    if bonus.start:
        below = probs < bonus.start
        reciprocal.masked_fill_(below, 1)
    if bonus.log_end < 0.5:
        reciprocal.clamp_(min=1 - bonus.log_end)
    value = reciprocal.prod(1, keepdim=True).log()
    reciprocal.reciprocal_()
    if bonus.log_end < 0.5:
        beyond = (probs - bonus.log_end).clamp_(min=0).div_(1 - bonus.log_end)
        value -= beyond.sum(1, keepdim=True)
        reciprocal += beyond
    if bonus.start:
        entries = probs.size(1) - below.sum(1, keepdim=True)
        value -= entries * math.log1p(-bonus.start)
    return value


def _subtract(matrix, subtrahend, factor, scale):
    if isinstance(scale, Tensor):  # read on the device, without waiting for it
        matrix.addcmul_(subtrahend, (-factor * scale).to(matrix.dtype))
    else:
        matrix.add_(subtrahend, alpha=-factor * scale)
