"""The rows' losses and gradient on the CPU: one row after another, in cache, compiled by numba.

Each loop over a row is a function of its own, which LLVM turns into vector instructions: it may
add in any order, but takes no liberties with infinities and NaN. A buffer lies between the row
that is read and the one that is written, for these may be the same memory. A row's entries are
computed in float32 (float64 for float64 logits), its few other numbers in float64.
"""

import functools
import math
import os
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType

import numba
import numpy as np
import torch
from llvmlite import binding
from numba import carray, types
from numba.extending import intrinsic, overload

from .bonus import FLOOR
from .formula import RowLosses

_scalar = numba.njit(error_model="numpy", fastmath={"contract"})
_loop = numba.njit(error_model="numpy", fastmath={"contract", "reassoc"})
_overload = functools.partial(overload, jit_options={"fastmath": {"contract"}})

# What stands for an entry in compiled code, which does not know half precision.
_ENTRY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.int16,
    torch.bfloat16: np.uint16,
}
_SHARED_FROM = 2**17  # entries; sharing fewer among threads costs more than it saves


@intrinsic
def _bits(context, value, kind):
    """The bits of a number as a number of another kind."""
    result = kind.dtype

    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(value, kind), code


@intrinsic
def _pointer(context, address, kind):
    """The address of numbers of a kind, for ``carray``."""
    result = types.CPointer(kind.dtype)

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(address, kind), code


def _read(entry):
    """An entry as a number to compute with, exactly."""


@_overload(_read)
def _(entry):
    def float16(entry):
        bits = np.uint32(np.uint16(entry))
        size = np.uint32(bits & 0x7FFF)
        moved = np.uint32(size << 13)
        finite = _bits(_bits(moved, np.float32) * np.float32(2.0**112), np.uint32)
        size = finite if size < 0x7C00 else np.uint32(moved | 0x7F800000)
        return _bits(np.uint32(size | ((bits & 0x8000) << 16)), np.float32)

    def bfloat16(entry):
        return _bits(np.uint32(np.uint32(entry) << 16), np.float32)

    return {types.int16: float16, types.uint16: bfloat16}.get(entry, lambda entry: entry)


def _write(number, kind):
    """A number as an entry of the kind, rounded to the nearest, ties to even."""


@_overload(_write)
def _(number, kind):
    def float16(number, kind):
        bits = _bits(number, np.uint32)
        size = np.uint32(bits & 0x7FFFFFFF)
        half = np.float32(0.5)  # whose last place is float16's smallest number
        small = np.uint32(_bits(_bits(size, np.float32) + half, np.uint32) - 0x3F000000)
        normal = np.uint32((size + 0xFFF + ((size >> 13) & 1) - (112 << 23)) >> 13)
        result = small if size < 0x38800000 else normal
        result = result if size < 0x477FF000 else np.uint32(0x7C00)  # 65520 and more
        result = result if size <= 0x7F800000 else np.uint32(0x7E00)
        return np.int16(result | ((bits >> 16) & 0x8000))

    def bfloat16(number, kind):
        bits = _bits(number, np.uint32)
        rounded = np.uint32((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)
        return np.uint16(rounded if number == number else 0x7FC0)

    return {types.int16: float16, types.uint16: bfloat16}.get(
        kind.dtype, lambda number, kind: number
    )


def _order(number):
    """A whole number, the larger the larger the number is; the largest of all for NaN."""


@_overload(_order)
def _(number):
    whole, last = (np.int32, 31) if number == types.float32 else (np.int64, 63)
    rest = 2**last - 1

    def order(number):
        bits = _bits(number + type(number)(0), whole)  # -0 becomes 0
        return whole(bits ^ ((bits >> last) & rest))

    return order


def _exp(number):
    """``exp`` of a number that is not positive: a power of two times Taylor's series."""


@_overload(_exp)
def _(number):
    if number == types.float32:
        real, whole, digits, bias, degree = np.float32, np.uint32, 23, 127, 7
    else:
        real, whole, digits, bias, degree = np.float64, np.uint64, 52, 1023, 13
    log2 = math.log(2)
    series = tuple(real(1 / math.factorial(k)) for k in range(degree + 1))
    rounding = real(1.5 * 2**digits)  # added, it leaves the nearest whole number in the last bits
    inverse_log2, lowest, log2 = real(1 / log2), real(-bias * log2), real(log2)

    def exp(number):
        number = lowest if number < lowest else number  # whose power of two is 0
        power = number * inverse_log2 + rounding
        rest = number - (power - rounding) * log2
        value = series[degree]
        for k in range(degree - 1, -1, -1):
            value = value * rest + series[k]
        return value * _bits(whole((_bits(power, whole) + whole(bias)) << whole(digits)), real)

    return exp


@_loop
def _largest(row):
    largest = _order(_read(row[0]))
    for k in range(row.size):
        order = _order(_read(row[k]))
        largest = order if order > largest else largest
    return largest


@_loop
def _place(row, largest):
    end = np.int32(row.size)
    place = end
    for k in range(row.size):
        here = np.int32(k) if _order(_read(row[k])) == largest else end
        place = here if here < place else place
    return place


@_scalar
def _top(row):
    """The first place of the row's largest entry (of a NaN, where there is one)."""
    start, largest = 0, _largest(row[:1024])
    for first in range(1024, row.size, 1024):
        order = _largest(row[first : first + 1024])
        if order > largest:
            start, largest = first, order
    return start + _place(row[start : start + 1024], largest)


@_loop
def _exps(row, top, exps):
    """Fills the buffer; sums of the exponentials and of the logits, all relative to the top."""
    total = shifted_total = exps.dtype.type(0)
    for k in range(row.size):
        shifted = _read(row[k]) - top
        exps[k] = _exp(shifted)
        total += exps[k]
        shifted_total += shifted
    return total, shifted_total


@_scalar
def _value(p, q, floor, start, is_normal):
    """``Bonus.value`` of one probability."""
    if p < start:
        return 0.0
    value = math.log(max(q, floor))
    if start:
        value -= math.log1p(-start)
    return value if is_normal else value - max(1 - q / floor, 0.0)


@_scalar
def _pull(p, q, floor, start, is_normal):
    """``Bonus.pull`` of one probability."""
    if p < start or (is_normal and q < floor):
        return 0.0
    return p / max(q, floor)


@_loop
def _bonuses(exps, inverse, floor, start):
    """Sums over entries, none above 1/2, of what ``_value`` and ``_pull`` are made of.

    The product of ``max(q, floor)`` in place of the sum of its logarithms; the sum beyond the log
    end; the number of entries with a bonus; the sum of the pulls.
    """
    real = exps.dtype.type
    zero, one = real(0), real(1)
    product, beyond, count, pulls = one, zero, zero, zero
    inverse_floor = one / floor
    for k in range(exps.size):
        p = exps[k] * inverse
        p = p if p >= start else zero
        q = one - p
        over = one - q * inverse_floor
        beyond += over if over > zero else zero
        count += one if p > zero else zero
        q = q if q > floor else floor
        product *= q
        pulls += p / q
    return product, beyond, count, pulls


@_loop
def _gradient(exps, factor, gradient):
    for k in range(exps.size):
        gradient[k] = _write(exps[k] * factor, gradient.dtype)


@_loop
def _smoothed_gradient(exps, inverse, floor, start, factor, share, bonus_share, gradient):
    """``p * factor - share - bonus_share * pull`` of each entry, none of which is above 1/2."""
    zero, one = exps.dtype.type(0), exps.dtype.type(1)
    for k in range(exps.size):
        p = exps[k] * inverse
        with_bonus = p if p >= start else zero
        q = one - with_bonus
        q = q if q > floor else floor
        entry = p * factor - share - bonus_share * (with_bonus / q)
        gradient[k] = _write(entry, gradient.dtype)


@_scalar
def _row(row, target, scale, gradient, exps, eps, log_end, start, weight):
    """Loss, nll and hit of a row; fills its ``gradient`` unless that has no entries."""
    real = exps.dtype.type
    classes = row.size
    top = _top(row)
    top_logit = _read(row[top])
    if not math.isfinite(top_logit):
        gradient[:] = _write(real(math.nan), gradient.dtype)
        return math.nan, math.nan, target == top
    before = _exps(row[:top], top_logit, exps[:top])
    behind = _exps(row[top + 1 :], top_logit, exps[top + 1 :])
    exps[top] = real(0)
    rest = float(before[0]) + float(behind[0])
    inverse = 1 / (1 + rest)
    log_sum = math.log1p(rest)
    top_p, top_q = inverse, rest * inverse
    hit = target == top
    p, q = top_p, top_q
    if not hit:
        p = exps[target] * inverse
        q = 1 - p
    nll = log_sum - float(_read(row[target]) - top_logit)

    is_normal = log_end == 1
    floor = FLOOR if is_normal else 1 - log_end
    share = eps / classes
    loss = (1 - eps) * (nll + weight * _value(p, q, floor, start, is_normal))
    # q_k h_k of the target beyond its share as a class, of the top and of all the others.
    of_target = (1 - eps) * (1 + weight * _pull(p, q, floor, start, is_normal))
    of_top = share * (1 + weight * _pull(top_p, top_q, floor, start, is_normal))
    of_others = share * (classes - 1)
    if eps:
        values = _value(top_p, top_q, floor, start, is_normal)
        if weight:
            product, beyond, count, pulls = _bonuses(exps, real(inverse), real(floor), real(start))
            values += math.log(product) - beyond - count * math.log1p(-start)
            of_others += share * weight * pulls
        loss += share * (classes * log_sum - before[1] - behind[1] + weight * values)
    if gradient.size:
        if hit:
            of_top += of_target
        else:
            of_others += of_target
        # p S - q h of the top without the difference of two large numbers that it is near p = 1.
        at_top = (top_p * of_others - top_q * of_top) * scale
        factor = (of_others + of_top) * scale
        if eps:
            _smoothed_gradient(
                exps,
                real(inverse),
                real(floor),
                real(start),
                real(factor),
                real(share * scale),
                real(share * weight * scale),
                gradient,
            )
        else:
            _gradient(exps, real(factor * inverse), gradient)
        gradient[top] = _write(real(at_top), gradient.dtype)
        if not hit:
            of_class = share * (1 + weight * _pull(p, q, floor, start, is_normal))
            at_target = p * factor - (of_target + of_class) * scale
            gradient[target] = _write(real(at_target), gradient.dtype)
    return loss, nll, hit


def _rows(
    rows, classes, logits, logits_step, target, target_step, scale, scale_step, gradient,
    gradient_step, loss, nll, hit, ignore_index, eps, log_end, start, weight, entry,
):  # fmt: skip
    """Rows that lie at addresses, with steps in bytes; no gradient where its address is 0.

    ``entry`` is any number of the type that stands for the logits'.
    """
    kind = type(entry)
    real = type(_read(entry))
    exps = np.empty(classes, real)
    losses = carray(_pointer(loss, real), (rows,))
    nlls = carray(_pointer(nll, real), (rows,))
    hits = carray(_pointer(hit, np.bool_), (rows,))
    for row in range(rows):
        goal = carray(_pointer(target + row * target_step, np.int64), (1,))[0]
        factor = carray(_pointer(scale + row * scale_step, real), (1,))[0] if gradient else real(0)
        out = carray(_pointer(gradient + row * gradient_step, kind), (classes if gradient else 0,))
        if goal == ignore_index:
            out[:] = _write(real(0), out.dtype)
            losses[row], nlls[row], hits[row] = real(0), real(0), False
        else:
            entries = carray(_pointer(logits + row * logits_step, kind), (classes,))
            losses[row], nlls[row], hits[row] = _row(
                entries, goal, float(factor), out, exps, eps, log_end, start, weight
            )


def _count(rows, classes, target, target_step, ignore_index):
    """The number of targets that count; where one is no class, -1 less its row."""
    count = 0
    for row in range(rows):
        goal = carray(_pointer(target + row * target_step, np.int64), (1,))[0]
        if goal != ignore_index:
            if not 0 <= goal < classes:
                return -1 - row
            count += 1
    return count


@functools.lru_cache(maxsize=None)
def _compiled(function, kind=None):
    """The function in machine code, for one kind of entries.

    It comes from numba's cache on disk, or goes there, if that can be. Each type and processor has
    a file of its own: numba's index of a file with several is not safe from two that write it.
    """
    signature = [types.int64] * (function.__code__.co_argcount - (0 if kind is None else 5))
    if kind is not None:
        signature += [types.float64] * 4 + [numba.typeof(kind(0))]
    processor = binding.get_host_cpu_name() + binding.get_host_cpu_features().flatten()
    of_one = FunctionType(function.__code__, function.__globals__, function.__name__)
    of_one.__qualname__ = (
        f"{function.__name__}_{kind and kind.__name__}_{zlib.crc32(processor.encode()):08x}"
    )
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(tuple(signature), cache=True, **options)(of_one)
    except Exception:  # nowhere to write, a full disk, a damaged file
        return numba.njit(tuple(signature), **options)(of_one)


@functools.lru_cache(maxsize=1)
def _helpers(count):
    return ThreadPoolExecutor(count, thread_name_prefix="encouraging-loss")


# The child of a fork has no other threads, but would believe it had.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def _share(work, rows, entries):
    """Call ``work(first, last)`` for all rows, by as many threads as PyTorch may use."""
    available = torch.get_num_threads()
    threads = min(available, 1 + entries // _SHARED_FROM)
    if threads == 1:
        work(0, rows)
        return
    step = max(1, rows // (4 * threads))
    parts = deque((first, min(first + step, rows)) for first in range(0, rows, step))

    def work_on():
        while True:
            try:
                part = parts.popleft()
            except IndexError:
                return
            work(*part)

    try:
        helping = [_helpers(available - 1).submit(work_on) for _ in range(threads - 1)]
    except RuntimeError:  # the interpreter is about to end
        helping = []
    work_on()
    for future in helping:
        if not future.cancel():
            future.result()


def row_losses(logits, target, spec, scale=None, gradient=None):
    """Compiled: see :func:`el_fairseq.ops.formula.row_losses`."""
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    rows, classes = logits.shape
    results = RowLosses.empty(logits)
    kind = _ENTRY[logits.dtype]
    kernel, entry = _compiled(_rows, kind), kind(0)
    size, number_size = logits.element_size(), results.loss.element_size()
    logits_at, logits_step = logits.data_ptr(), logits.stride(0) * size
    target_at, target_step = target.data_ptr(), target.stride(0) * 8
    scale_at = scale_step = gradient_at = gradient_step = 0
    if gradient is not None and classes:
        gradient_at, gradient_step = gradient.data_ptr(), gradient.stride(0) * size
        scale_at, scale_step = scale.data_ptr(), scale.dim() * number_size
    loss_at, nll_at, hit_at = (result.data_ptr() for result in results)
    options = (float(option) for option in (spec.label_smoothing, *spec.bonus))
    eps, log_end, start, weight = options

    def work(first, last):
        kernel(
            last - first,
            classes,
            logits_at + first * logits_step,
            logits_step,
            target_at + first * target_step,
            target_step,
            scale_at + first * scale_step,
            scale_step,
            gradient_at + first * gradient_step,
            gradient_step,
            loss_at + first * number_size,
            nll_at + first * number_size,
            hit_at + first,
            spec.ignore_index,
            eps,
            log_end,
            start,
            weight,
            entry,
        )

    _share(work, rows, rows * classes)
    return results


def count(target, classes, ignore_index):
    """The number of targets that are not ignored; the first that is no class, or ``None``."""
    found = _compiled(_count)(
        target.numel(), classes, target.data_ptr(), 8 * target.stride(0), ignore_index
    )
    return (found, None) if found >= 0 else (0, target[-1 - found].item())
