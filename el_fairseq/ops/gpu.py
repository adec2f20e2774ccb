"""The rows' losses and gradient on a GPU: one Triton program a row, and no memory but theirs.

The arithmetic is that of the other versions, in float32. A program reads its row three to four
times, from the GPU's cache after the first; exponentials are cheaper there than memory to keep
them in.
"""

import contextlib

import torch
import triton
import triton.language as tl

from .bonus import FLOOR
from .formula import RowLosses


@triton.jit
def _value(p, q, start, floor, IS_NORMAL: tl.constexpr):
    """``Bonus.value``; ``floor`` is the least ``1 - p`` on the log curve."""
    value = tl.log(tl.maximum(q, floor))
    start_value = tl.log(1 - start)
    if not IS_NORMAL:
        value -= tl.maximum(1 - q / floor, 0.0)
    return tl.where(p < start, 0.0, value - start_value)


@triton.jit
def _pull(p, q, start, floor, IS_NORMAL: tl.constexpr):
    """``Bonus.pull``."""
    pull = p / tl.maximum(q, floor)
    if IS_NORMAL:
        pull = tl.where(q < floor, 0.0, pull)
    return tl.where(p < start, 0.0, pull)


@triton.jit
def _row_kernel(
    logits,
    target,
    gradient,
    scale,
    loss,
    nll,
    hit,
    classes,
    logits_stride,
    target_stride,
    scale_stride,
    gradient_stride,
    ignore_index,
    eps,
    start,
    weight,
    floor,
    IS_NORMAL: tl.constexpr,
    IS_SMOOTHED: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    logits += row * logits_stride
    gradient += row * gradient_stride
    lanes = tl.arange(0, BLOCK)
    goal = tl.load(target + row * target_stride)
    is_ignored = goal == ignore_index
    goal = tl.where(is_ignored, 0, goal)

    lane_top = tl.full([BLOCK], float("-inf"), tl.float32)
    lane_index = tl.zeros([BLOCK], tl.int64)
    for first in range(0, classes, BLOCK):
        at = first + lanes
        x = tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)
        lane_index = tl.where(x > lane_top, at.to(tl.int64), lane_index)
        lane_top = tl.maximum(x, lane_top)
    top_logit = tl.max(lane_top, axis=0)
    top = tl.min(tl.where(lane_top == top_logit, lane_index, classes), axis=0)
    nothing = top_logit - top_logit  # 0; NaN for infinite logits

    lane_rest = tl.zeros([BLOCK], tl.float32)
    lane_sum = tl.zeros([BLOCK], tl.float32)
    for first in range(0, classes, BLOCK):
        at = first + lanes
        x = tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)
        lane_rest += tl.where(at == top, 0.0, tl.exp(x - top_logit))
        lane_sum += tl.where(at < classes, x - top_logit, 0.0)
    rest = tl.sum(lane_rest, axis=0) + nothing
    inverse = 1 / (1 + rest)
    log_sum = tl.log(1 + rest)
    top_p = inverse
    top_q = rest * inverse
    is_top = goal == top
    goal_logit = tl.load(logits + goal).to(tl.float32) - top_logit
    goal_p = tl.where(is_top, top_p, tl.exp(goal_logit) * inverse)
    goal_q = tl.where(is_top, top_q, 1 - goal_p)
    row_nll = log_sum - goal_logit
    row_loss = row_nll + weight * _value(goal_p, goal_q, start, floor, IS_NORMAL)
    row_loss *= 1 - eps

    share = eps / classes
    of_goal = (1 - eps) * (1 + weight * _pull(goal_p, goal_q, start, floor, IS_NORMAL))
    of_top = share * (1 + weight * _pull(top_p, top_q, start, floor, IS_NORMAL))
    of_others = share * (classes - 1)
    if IS_SMOOTHED:
        lane_value = tl.zeros([BLOCK], tl.float32)
        lane_pull = tl.zeros([BLOCK], tl.float32)
        for first in range(0, classes, BLOCK):
            at = first + lanes
            x = tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)
            p = tl.exp(x - top_logit) * inverse
            counts = (at < classes) & (at != top)
            value = _value(p, 1 - p, start, floor, IS_NORMAL)
            lane_value += tl.where(counts, value, 0.0)
            pull = _pull(p, 1 - p, start, floor, IS_NORMAL)
            lane_pull += tl.where(counts, pull, 0.0)
        values = tl.sum(lane_value, axis=0)
        values += _value(top_p, top_q, start, floor, IS_NORMAL)
        row_loss += share * (classes * log_sum - tl.sum(lane_sum, axis=0) + weight * values)
        of_others += share * weight * tl.sum(lane_pull, axis=0)
    tl.store(loss + row, tl.where(is_ignored, 0.0, row_loss))
    tl.store(nll + row, tl.where(is_ignored, 0.0, row_nll))
    tl.store(hit + row, is_top & (is_ignored == 0))

    if WITH_GRADIENT:
        factor = tl.load(scale + row * scale_stride).to(tl.float32)
        of_others += tl.where(is_top, 0.0, of_goal)
        of_top += tl.where(is_top, of_goal, 0.0)
        # p S - q h of the top one without the difference of two large numbers near p = 1.
        of_top_alone = top_p * of_others - top_q * of_top
        pull_of_all = of_others + of_top
        for first in range(0, classes, BLOCK):
            at = first + lanes
            x = tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)
            p = tl.exp(x - top_logit) * inverse
            entry = p * pull_of_all
            if IS_SMOOTHED:
                entry -= share * (1 + weight * _pull(p, 1 - p, start, floor, IS_NORMAL))
            entry -= tl.where(at == goal, of_goal, 0.0)
            entry = tl.where(at == top, of_top_alone, entry)
            entry = tl.where(is_ignored, 0.0, entry * factor)
            tl.store(gradient + at, entry.to(gradient.dtype.element_ty), mask=at < classes)


def lanes_of(classes):
    """Entries that a program works on at once: a power of two, all of a small row, at most 4096."""
    return min(4096, triton.next_power_of_2(max(classes, 16)))


def row_losses(logits, target, spec, scale=None, gradient=None):
    """By Triton: see :func:`el_fairseq.ops.formula.row_losses`; logits of at most 32 bits."""
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    rows, classes = logits.shape
    results = RowLosses.empty(logits)
    if not rows or not classes:
        return RowLosses(*(result.zero_() for result in results))
    with_gradient = gradient is not None
    log_end, start, weight = (float(option) for option in spec.bonus)
    is_normal = log_end == 1
    lanes = lanes_of(classes)
    with torch.cuda.device(logits.device) if logits.is_cuda else contextlib.nullcontext():
        _row_kernel[(rows,)](
            logits,
            target,
            gradient if with_gradient else logits,
            scale if with_gradient else results.loss,
            *results,
            classes,
            logits.stride(0),
            target.stride(0),
            scale.stride(0) if with_gradient and scale.dim() else 0,
            gradient.stride(0) if with_gradient else 0,
            spec.ignore_index,
            float(spec.label_smoothing),
            start,
            weight,
            FLOOR if is_normal else 1 - log_end,
            IS_NORMAL=is_normal,
            IS_SMOOTHED=spec.label_smoothing > 0,
            WITH_GRADIENT=with_gradient,
            BLOCK=lanes,
            num_warps=8 if lanes >= 2048 else 4,
        )
    return results
