"""The rows' losses and gradient on a GPU, with one Triton program for each row.

It needs no memory beyond its results, except for a copy of logits whose classes are not contiguous.
The arithmetic is that of the CPU's version, in float32. A row of up to 8,192 logits is held in
registers, and read once. A longer row is read in blocks, three to four times; after the first time
they should come from the GPU's cache. An entry takes 72 instructions with label smoothing and
gradient, 85 with a start of the bonus, 42 without smoothing (half precision, Triton 3.7, compute
capability 9.0). **Nobody has timed it on a GPU.**
"""

import math

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from .reference import FLOOR, RowLosses

PROGRAMS = 1024  # of the kernel that multiplies; each processes every 1024th block


@triton.jit
def _product(a, b):
    return a * b


@triton.jit
def _value(p, q, start, log_rest, floor, IS_NORMAL: tl.constexpr):
    """``Spec.bonus``; ``floor`` is the smallest ``1 - p`` on the log curve."""
    value = tl.log(tl.maximum(q, floor)) - log_rest
    if not IS_NORMAL:
        value -= tl.maximum(1 - q / floor, 0.0)
    return tl.where(p < start, 0.0, value)


@triton.jit
def _slope(p, q, start, floor, IS_NORMAL: tl.constexpr, HAS_START: tl.constexpr):
    """``-p b'(p)``, within 2 units in the last place."""
    slope = libdevice.fast_dividef(p, tl.maximum(q, floor))
    if IS_NORMAL:
        slope = tl.where(q < floor, 0.0, slope)
    if HAS_START:
        slope = tl.where(p < start, 0.0, slope)
    return slope


@triton.jit
def _read(logits, at, classes):
    return tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)


# fairseq's ignore_index is 1, and Triton would compile a separate kernel for that value.
@triton.jit(do_not_specialize=["ignore_index"])
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
    log_rest,
    weight,
    floor,
    inverse_floor,
    ALIGN: tl.constexpr,
    IS_NORMAL: tl.constexpr,
    HAS_START: tl.constexpr,
    IS_SMOOTHED: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_HELD: tl.constexpr,
):
    # Both are multiples already. This tells the compiler, which then reads and writes 16 bytes.
    classes = classes // ALIGN * ALIGN
    logits_stride = logits_stride // ALIGN * ALIGN
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
    # Read before the sums, at which all threads wait: the gradient may overwrite this memory.
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
        is_largest = exps == 1
        lane_below += tl.where(is_largest, 0.0, exps)
        lane_count += tl.where(is_largest, 1.0, 0.0)
        if IS_SMOOTHED:
            lane_total += tl.where(at < classes, shifted, 0.0)
        lane_index = tl.minimum(lane_index, tl.where(block == largest, at, classes))
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
    loss = (1 - eps) * (nll + weight * _value(p, q, start, log_rest, floor, IS_NORMAL))
    share = eps / classes
    slope = _slope(p, q, start, floor, IS_NORMAL, HAS_START)
    slope_max = _slope(p_max, q_max, start, floor, IS_NORMAL, HAS_START)
    of_class = share * (1 + weight * slope)
    of_target = (1 - eps) * (1 + weight * slope)
    of_largest = share * (1 + weight * slope_max)
    of_others = share * (classes - count)
    if IS_SMOOTHED:
        lane_product = tl.full([BLOCK], 1.0, tl.float32)
        lane_beyond = tl.zeros([BLOCK], tl.float32)
        lane_with = tl.zeros([BLOCK], tl.float32)
        lane_slope = tl.zeros([BLOCK], tl.float32)
        for first in range(0, end, BLOCK):
            at = first + lanes
            block = held if IS_HELD else _read(logits_ptr, at, classes)
            exps = tl.exp(block - largest)
            p_k = exps * inverse
            has_bonus = at < classes
            if HAS_START:
                has_bonus = has_bonus & (p_k >= start)
                lane_with += tl.where(has_bonus, 1.0, 0.0)
            q_k = tl.where(has_bonus, (rest + (1 - exps)) * inverse, 1.0)
            if not IS_NORMAL:
                lane_beyond += tl.maximum(1 - q_k * inverse_floor, 0.0)
            lane_product *= tl.maximum(q_k, floor)
            slope_k = _slope(p_k, q_k, start, floor, IS_NORMAL, HAS_START)
            lane_slope += tl.where(exps == 1, 0.0, slope_k)
        of_others += share * weight * tl.sum(lane_slope, axis=0)
        values = tl.log(tl.reduce(lane_product, 0, _product)) - tl.sum(lane_beyond, axis=0)
        if HAS_START:
            values -= tl.sum(lane_with, axis=0) * log_rest
        loss += share * (classes * log_sum - tl.sum(lane_total, axis=0) + weight * values)
    scale = tl.load(scale_ptr + row * scale_stride).to(tl.float32)
    tl.store(loss_ptr + row, tl.where(is_ignored, 0.0, loss * scale))
    tl.store(nll_ptr + row, tl.where(is_ignored, 0.0, nll))
    tl.store(correct_ptr + row, (target == tl.min(lane_index, axis=0)) & (is_ignored == 0))

    if WITH_GRADIENT:
        others_of_largest = of_others + (count - 1) * of_largest + of_target
        at_largest = (p_max * others_of_largest - q_max * of_largest) * scale
        others_of_target = of_others + (count * of_largest - of_class)
        at_target = (p * others_of_target - q * (of_target + of_class)) * scale
        factor = (of_others + count * of_largest + of_target) * scale * inverse
        share = share * scale
        of_bonus = share * weight
        for first in range(0, end, BLOCK):
            at = first + lanes
            block = held if IS_HELD else _read(logits_ptr, at, classes)
            exps = tl.exp(block - largest)
            entry = exps * factor
            if IS_SMOOTHED:
                p_k = exps * inverse
                slope_k = _slope(p_k, 1 - p_k, start, floor, IS_NORMAL, HAS_START)
                entry -= share + of_bonus * slope_k
            entry = tl.where(exps == 1, at_largest, entry)
            entry = tl.where(at == target, at_target, entry)
            entry = tl.where(is_ignored, 0.0, entry)
            entry = entry.to(gradient_ptr.dtype.element_ty)
            tl.store(gradient_ptr + at, entry, mask=at < classes)


def lanes_of(classes):
    """Entries that a program processes at once, a power of two: a whole row, if it can be held."""
    return triton.next_power_of_2(max(classes, 16)) if classes <= 8192 else 2048


def warps_of(lanes):
    """Warps of a program that processes this many entries at once."""
    return 1 if lanes <= 32 else max(4, lanes // 256)


def row_losses(logits, target, spec, scale, gradient=None):
    """By Triton: see :func:`el_fairseq.ops.reference.row_losses`; logits of at most 32 bits."""
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    rows, classes = logits.shape
    types = torch.float32, torch.float32, torch.bool
    results = RowLosses(*(logits.new_empty(rows, dtype=dtype) for dtype in types))
    if not rows or not classes:  # without classes, every target is ignored
        return RowLosses(*(each.zero_() for each in results))
    log_end, start, weight = map(float, (spec.log_end, spec.bonus_start, spec.bonus_weight))
    floor = FLOOR if log_end == 1 else 1 - log_end
    lanes = lanes_of(classes)
    with torch.cuda.device_of(logits):
        _row_kernel[(rows,)](
            *(logits, target, logits if gradient is None else gradient, scale, *results),
            *(classes, logits.stride(0), target.stride(0), scale.stride(0), spec.ignore_index),
            *(float(spec.label_smoothing), start, math.log1p(-start), weight, floor, 1 / floor),
            ALIGN=8 if classes % 8 == logits.stride(0) % 8 == 0 else 1,
            IS_NORMAL=log_end == 1,
            HAS_START=start > 0,
            IS_SMOOTHED=spec.label_smoothing > 0,
            WITH_GRADIENT=gradient is not None,
            BLOCK=lanes,
            IS_HELD=classes <= lanes,
            num_warps=warps_of(lanes),
        )
    return results


@triton.jit(do_not_specialize=["ignore_index"])
def _count_kernel(
    target_ptr, count_ptr, valid_ptr, rows, stride, classes, ignore_index, BLOCK: tl.constexpr
):
    counted = tl.zeros([BLOCK], tl.int32)
    wrong = tl.zeros([BLOCK], tl.int32)
    for first in range(0, rows, BLOCK):
        at = first + tl.arange(0, BLOCK)
        target = tl.load(target_ptr + at.to(tl.int64) * stride, at < rows, ignore_index)
        counts = target != ignore_index
        counted += counts.to(tl.int32)
        wrong += (counts & ((target < 0) | (target >= classes))).to(tl.int32)
    tl.store(count_ptr, tl.maximum(tl.sum(counted, axis=0), 1))
    tl.store(valid_ptr, tl.sum(wrong, axis=0) == 0)


def count(target, classes, ignore_index):
    """The number of targets that are not ignored, at least 1, in a tensor (1,).

    The device asserts that each is a class: reading them here would wait for the device.
    """
    number = target.new_empty(1, dtype=torch.float32)
    is_valid = target.new_empty(1, dtype=torch.bool)
    arguments = len(target), target.stride(0), classes, ignore_index
    with torch.cuda.device_of(target):
        _count_kernel[(1,)](target, number, is_valid, *arguments, BLOCK=1024)
    torch._assert_async(is_valid)
    return number


@triton.jit
def _multiply_kernel(values_ptr, factor_ptr, count, BLOCK: tl.constexpr):
    factor = tl.load(factor_ptr).to(tl.float32)
    if factor != 1:
        first = tl.program_id(0).to(tl.int64) * BLOCK
        for begin in range(first, count, tl.num_programs(0) * BLOCK):
            at = begin + tl.arange(0, BLOCK)
            values = tl.load(values_ptr + at, mask=at < count).to(tl.float32) * factor
            tl.store(values_ptr + at, values.to(values_ptr.dtype.element_ty), mask=at < count)


def multiply(values, factor):
    """Multiply dense values in place by a tensor of one number. If it is 1, the kernel neither
    reads nor writes them."""
    with torch.cuda.device_of(values):
        _multiply_kernel[(PROGRAMS,)](values, factor, values.numel(), BLOCK=4096, num_warps=8)
    return values
