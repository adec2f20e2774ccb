"""The rows' losses and gradient on a GPU: one Triton program a row, and no memory but theirs.

The arithmetic is that of the other versions, in float32. A row of up to 8,192 logits is held in
registers, so that it is read once and its exponentials are taken once; of longer ones the steps
read blocks, three to four times, from the GPU's cache after the first. Compiled for compute
capability 9.0 a thread needs 97 registers at most and spills none; 16,384 logits would spill.
**Nobody has timed it on a GPU.**
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
    value = tl.log(tl.maximum(q, floor)) - tl.log(1 - start)
    if not IS_NORMAL:
        value -= tl.maximum(1 - q / floor, 0.0)
    return tl.where(p < start, 0.0, value)


@triton.jit
def _slope(p, q, start, floor, IS_NORMAL: tl.constexpr):
    """``Bonus.slope``."""
    slope = p / tl.maximum(q, floor)
    if IS_NORMAL:
        slope = tl.where(q < floor, 0.0, slope)
    return tl.where(p < start, 0.0, slope)


@triton.jit
def _read(logits, at, classes):
    return tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)


@triton.jit
def _row_kernel(
    logits_ptr,
    target_ptr,
    gradient_ptr,
    scale_ptr,
    loss_ptr,
    nll_ptr,
    correct_ptr,
    classes,
    logits_stride,
    target_stride,
    scale_stride,
    ignore_index,
    eps,
    start,
    weight,
    floor,
    IS_NORMAL: tl.constexpr,
    IS_SMOOTHED: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_HELD: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * logits_stride
    gradient_ptr += row * classes
    lanes = tl.arange(0, BLOCK)
    target = tl.load(target_ptr + row * target_stride)
    is_ignored = target == ignore_index
    target = tl.where(is_ignored, 0, target)

    held = _read(logits_ptr, lanes, classes)
    end = BLOCK if IS_HELD else classes
    lane_max = tl.full([BLOCK], float("-inf"), tl.float32)
    for first in range(0, end, BLOCK):
        block = held if IS_HELD else _read(logits_ptr, first + lanes, classes)
        lane_max = tl.maximum(lane_max, block)
    largest = tl.max(lane_max, axis=0)
    # Before sums wait for all threads: the gradient may be written to the same place.
    target_logit = tl.load(logits_ptr + target).to(tl.float32) - largest

    lane_below = tl.zeros([BLOCK], tl.float32)
    lane_count = tl.zeros([BLOCK], tl.float32)
    lane_total = tl.zeros([BLOCK], tl.float32)
    lane_index = tl.zeros([BLOCK], tl.int32) + classes
    for first in range(0, end, BLOCK):
        at = first + lanes
        block = held if IS_HELD else _read(logits_ptr, at, classes)
        shifted = block - largest
        exps = tl.exp(shifted)
        lane_below += tl.where(exps == 1, 0.0, exps)
        lane_count += tl.where(exps == 1, 1.0, 0.0)
        lane_total += tl.where(at < classes, shifted, 0.0)
        # The first NaN, counted from behind, or the first of the largest.
        lane_index = tl.minimum(lane_index, tl.where(block == largest, at, classes))
        lane_index = tl.minimum(lane_index, tl.where(block != block, at - classes, classes))
    count = tl.sum(lane_count, axis=0)
    rest = tl.sum(lane_below, axis=0) + (count - 1)
    inverse = 1 / (1 + rest)
    log_sum = tl.log(1 + rest)
    target_exp = tl.exp(target_logit)
    p = target_exp * inverse
    q = (rest + (1 - target_exp)) * inverse
    p_max = inverse
    q_max = rest * inverse

    nll = log_sum - target_logit
    loss = (1 - eps) * (nll + weight * _value(p, q, start, floor, IS_NORMAL))
    share = eps / classes
    of_class = share * (1 + weight * _slope(p, q, start, floor, IS_NORMAL))
    of_target = (1 - eps) * (1 + weight * _slope(p, q, start, floor, IS_NORMAL))
    of_largest = share * (1 + weight * _slope(p_max, q_max, start, floor, IS_NORMAL))
    of_others = share * (classes - count)
    if IS_SMOOTHED:
        lane_value = tl.zeros([BLOCK], tl.float32)
        lane_slope = tl.zeros([BLOCK], tl.float32)
        for first in range(0, end, BLOCK):
            at = first + lanes
            block = held if IS_HELD else _read(logits_ptr, at, classes)
            exps = tl.exp(block - largest)
            p_k = exps * inverse
            q_k = (rest + (1 - exps)) * inverse
            value = _value(p_k, q_k, start, floor, IS_NORMAL)
            lane_value += tl.where(at < classes, value, 0.0)
            slope = _slope(p_k, q_k, start, floor, IS_NORMAL)
            lane_slope += tl.where((at < classes) & (exps != 1), slope, 0.0)
        of_others += share * weight * tl.sum(lane_slope, axis=0)
        values = tl.sum(lane_value, axis=0)
        loss += share * (classes * log_sum - tl.sum(lane_total, axis=0) + weight * values)
    tl.store(loss_ptr + row, tl.where(is_ignored, 0.0, loss))
    tl.store(nll_ptr + row, tl.where(is_ignored, 0.0, nll))
    first = tl.min(lane_index, axis=0)
    is_first = target == tl.where(first < 0, first + classes, first)
    tl.store(correct_ptr + row, is_first & (is_ignored == 0))

    if WITH_GRADIENT:
        scale = tl.load(scale_ptr + row * scale_stride).to(tl.float32)
        others_of_largest = of_others + (count - 1) * of_largest + of_target
        at_largest = p_max * others_of_largest - q_max * of_largest
        others_of_target = of_others + (count * of_largest - of_class)
        at_target = p * others_of_target - q * (of_target + of_class)
        factor = of_others + count * of_largest + of_target
        for first in range(0, end, BLOCK):
            at = first + lanes
            block = held if IS_HELD else _read(logits_ptr, at, classes)
            exps = tl.exp(block - largest)
            p_k = exps * inverse
            entry = p_k * factor
            if IS_SMOOTHED:
                entry -= share * (1 + weight * _slope(p_k, 1 - p_k, start, floor, IS_NORMAL))
            entry = tl.where(exps == 1, at_largest, entry)
            entry = tl.where(at == target, at_target, entry)
            entry = tl.where(is_ignored, 0.0, entry * scale)
            entry = entry.to(gradient_ptr.dtype.element_ty)
            tl.store(gradient_ptr + at, entry, mask=at < classes)


def lanes_of(classes):
    """Entries that a program works on at once, a power of two: all of a row that can be held."""
    return triton.next_power_of_2(max(classes, 16)) if classes <= 8192 else 2048


def row_losses(logits, target, spec, scale, gradient=None):
    """By Triton: see :func:`el_fairseq.ops.formula.row_losses`; logits of at most 32 bits."""
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    rows, classes = logits.shape
    types = torch.float32, torch.float32, torch.bool
    results = RowLosses(*(logits.new_zeros(rows, dtype=dtype) for dtype in types))
    if not rows or not classes:
        return results
    log_end, start, weight = map(float, spec.bonus)
    floor = FLOOR if log_end == 1 else 1 - log_end
    lanes = lanes_of(classes)
    with torch.cuda.device(logits.device) if logits.is_cuda else contextlib.nullcontext():
        _row_kernel[(rows,)](
            *(logits, target, logits if gradient is None else gradient, scale, *results),
            *(classes, logits.stride(0), target.stride(0), scale.stride(0)),
            *(spec.ignore_index, float(spec.label_smoothing), start, weight, floor),
            IS_NORMAL=log_end == 1,
            IS_SMOOTHED=spec.label_smoothing > 0,
            WITH_GRADIENT=gradient is not None,
            BLOCK=lanes,
            IS_HELD=classes <= lanes,
            num_warps=max(4, lanes // 256),
        )
    return results
