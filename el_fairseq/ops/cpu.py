"""The rows' losses and gradient on the CPU: one row after another, in cache, compiled by numba.

Each loop over a row is a separate function, which LLVM turns into vector instructions. The row
that is read and the row that is written may be the same memory, so a buffer lies between them. The
entries of a row are computed in float32 (float64 for float64 logits), its few other numbers in
float64. Logits of another dtype, or that are not contiguous, are copied block by block.
"""

import ctypes
import functools
import math
import os
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import torch
from llvmlite import binding
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic, overload

from .reference import FLOOR, RowLosses, in_blocks, number_type, rows_of

_scalar = numba.njit(error_model="numpy", fastmath={"contract"})
_loop = numba.njit(error_model="numpy", fastmath={"contract", "reassoc"})  # sums in any order
_SHARE = 2**18  # entries that a thread takes at once: smaller shares gain nothing, or cost more
CONVERTED = 2**20  # entries converted at once: 4 MiB of float32, which fit in the cache


@intrinsic
def _bits(context, number):
    """The bits of a floating-point number as an integer, and the other way round."""
    pairs = {types.float32: types.int32, types.float64: types.int64}
    kind = pairs.get(number) or {whole: real for real, whole in pairs.items()}[number]

    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(kind))

    return kind(number), code


def _exp(number):
    """``exp`` of a number of at most 0: a power of two times a Taylor series."""


@overload(_exp, jit_options={"fastmath": {"contract"}})
def _(number):
    if number == types.float32:
        real, whole, digits, bias, degree = np.float32, np.int32, 23, 127, 7
    else:
        real, whole, digits, bias, degree = np.float64, np.int64, 52, 1023, 13
    log2 = math.log(2)
    series = tuple(real(1 / math.factorial(k)) for k in range(degree + 1))
    rounding = real(1.5 * 2**digits)  # adding it rounds to an integer, in the last bits
    inverse_log2, lowest, log2 = real(1 / log2), real(-bias * log2), real(log2)

    def exp(number):
        number = lowest if number < lowest else number  # whose power of two is 0
        power = number * inverse_log2 + rounding
        rest = number - (power - rounding) * log2
        value = series[degree]
        for k in range(degree - 1, -1, -1):
            value = value * rest + series[k]
        return value * _bits(whole((_bits(power) + whole(bias)) << whole(digits)))

    return exp


@_loop
def _max(row):
    """The largest number. It compares integers, because LLVM vectorizes that."""
    zero, lowest = _bits(row.dtype.type(0)), _bits(row.dtype.type(-0.0))
    whole, largest = type(lowest), lowest
    for k in range(row.size):
        bits = _bits(row[k])
        bits = bits if bits >= zero else whole(lowest - bits)
        largest = bits if bits > largest else largest
    return _bits(largest if largest >= zero else whole(lowest - largest))


@_loop
def _exps(row, largest, exps):
    """Fill ``exps``. Returns the sum of those below 1, that of the logits, and how many are 1."""
    zero, one = exps.dtype.type(0), exps.dtype.type(1)
    below, total, count = zero, zero, np.int32(0)
    for k in range(row.size):
        shifted = row[k] - largest
        exps[k] = exp = _exp(shifted)
        below += zero if exp == one else exp
        total += shifted
        count = np.int32(count + (exp == one))
    return below, total, count


@_scalar
def _value(p, q, floor, start, is_normal):
    """``Spec.bonus`` of one probability."""
    if p < start:
        return 0.0
    value = math.log(max(q, floor)) - math.log1p(-start)
    return value if is_normal else value - max(1 - q / floor, 0.0)


@_scalar
def _slope(p, q, floor, start, is_normal):
    """``-p b'(p)`` of one probability."""
    return 0.0 if p < start or (is_normal and q < floor) else p / max(q, floor)


@_loop
def _bonuses(exps, inverse, rest, floor, start):
    """The terms of ``_value`` and ``_slope``, added over a row.

    Returns the product of ``max(q, floor)``, instead of the sum of its logarithms; the sum of the
    tangent beyond the log end; the number of entries with a bonus; and the sum of the slopes,
    without those of the largest entries.
    """
    zero, one = exps.dtype.type(0), exps.dtype.type(1)
    product, beyond, count, slopes = one, zero, zero, zero
    inverse_floor = one / floor
    for k in range(exps.size):
        exp = exps[k]
        p = exp * inverse
        q = (rest + (one - exp)) * inverse
        has_bonus = p >= start
        q = q if has_bonus else one
        over = one - q * inverse_floor
        beyond += over if over > zero else zero
        count += one if has_bonus else zero
        q = q if q > floor else floor
        product *= q
        slopes += p / q if has_bonus and exp != one else zero
    return product, beyond, count, slopes


@_loop
def _gradient(exps, inverse, floor, start, factor, share, bonus_share, of_largest, gradient):
    """``p * factor - share - bonus_share * slope``, and ``of_largest`` at the largest entries."""
    zero, one = exps.dtype.type(0), exps.dtype.type(1)
    for k in range(exps.size):
        exp = exps[k]
        p = exp * inverse
        with_bonus = p if p >= start else zero
        q = one - with_bonus
        q = q if q > floor else floor
        entry = p * factor - share - bonus_share * (with_bonus / q)
        gradient[k] = of_largest if exp == one else entry


@_scalar
def _row(logits, target, scale, gradient, exps, eps, log_end, start, weight):
    """Scaled loss, nll and correctness of a row. Fills ``gradient``, unless that has no entries."""
    real, classes = exps.dtype.type, logits.size
    is_normal = log_end == 1
    floor = FLOOR if is_normal else 1 - log_end
    largest = _max(logits)
    target_logit = float(logits[target] - largest)
    below, total, count = _exps(logits, largest, exps)
    rest = float(below) + (count - 1)
    inverse, log_sum = 1 / (1 + rest), math.log1p(rest)
    p, q = exps[target] * inverse, (rest + (1 - exps[target])) * inverse
    p_max, q_max = inverse, rest * inverse
    correct = logits[target] == largest and (target == 0 or _max(logits[:target]) < largest)

    nll = log_sum - target_logit
    loss = (1 - eps) * (nll + weight * _value(p, q, floor, start, is_normal))
    # q_k h_k of: the target as a class, the target beyond that, a largest entry, all others
    share = eps / classes
    of_class = share * (1 + weight * _slope(p, q, floor, start, is_normal))
    of_target = (1 - eps) * (1 + weight * _slope(p, q, floor, start, is_normal))
    of_largest = share * (1 + weight * _slope(p_max, q_max, floor, start, is_normal))
    of_others = share * (classes - count)
    if eps:
        product, beyond, with_bonus, slopes = _bonuses(
            exps, real(inverse), real(rest), real(floor), real(start)
        )
        values = math.log(product) - with_bonus * math.log1p(-start)
        values -= 0 if is_normal else beyond
        of_others += share * weight * slopes
        loss += share * (classes * log_sum - total + weight * values)
    if gradient.size:
        at_largest = p_max * (of_others + (count - 1) * of_largest + of_target) - q_max * of_largest
        at_target = p * (of_others + (count * of_largest - of_class)) - q * (of_target + of_class)
        factor = real((of_others + count * of_largest + of_target) * scale)
        shares = real(share * scale), real(share * weight * scale)
        at_largest = real(at_largest * scale)
        _gradient(
            exps, real(inverse), real(floor), real(start), factor, *shares, at_largest, gradient
        )
        gradient[target] = at_target * scale
    return loss * scale, nll, correct


def _rows(first, last, logits, target, scale, gradient, loss, nll, correct, ignore_index, options):
    """Some rows of ``row_losses``; an empty ``gradient`` (0, V) is not computed."""
    # LLVM compiles a second loop, which rounds otherwise, for arrays whose starts are less than
    # four vectors apart, as those of a small row and of what lies behind it can be.
    exps = np.empty(logits.shape[1] + 512, logits.dtype)[256:-256]
    for row in range(first, last):
        of_row = gradient[row] if len(gradient) else exps[:0]
        if target[row] == ignore_index:
            loss[row], nll[row], correct[row], of_row[:] = 0, 0, False, 0
        else:
            loss[row], nll[row], correct[row] = _row(
                logits[row], target[row], float(scale[row]), of_row, exps, *options
            )


def _count(target, classes, ignore_index):
    """The number of targets that are not ignored; -1 if one of them is not a class."""
    count = 0
    for row in range(len(target)):
        if target[row] != ignore_index:
            if not 0 <= target[row] < classes:
                return -1
            count += 1
    return count


_SIGNATURES = {
    _rows: "void(i8, i8, {0}[:, ::1], i8[:], {0}[:], {0}[:, ::1], {0}[::1], {0}[::1], b1[::1], i8, "
    "UniTuple(f8, 4))",
    _count: "i8(i8[:], i8, i8)",
}


@functools.lru_cache(maxsize=None)
def _compiled(function, dtype=torch.int64):
    """The function in machine code, for logits of a dtype, from numba's cache on disk if possible.

    Each dtype, processor and version of this file has its own folder: with several in one, numba's
    index is not safe when two processes write it.
    """
    number = str(dtype)[len("torch.") :]
    signature = _SIGNATURES[function].format(number)
    make = functools.partial(numba.njit, signature, nogil=True, error_model="numpy")
    with global_compiler_lock:
        given = numba.config.CACHE_DIR
        try:
            processor = binding.get_host_cpu_name() + binding.get_host_cpu_features().flatten()
            key = zlib.crc32(Path(__file__).read_bytes() + f"{FLOOR} {processor}".encode())
            # By default numba caches beside this file, where pip uninstall would leave it.
            caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
            folder = Path(given or caches / "el_fairseq", f"{number}_{key:08x}").resolve()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # else numba would take its default
            numba.config.CACHE_DIR = str(folder)
            return make(cache=True)(function)
        except Exception:  # such as no folder to write to, a full disk, a damaged file
            return make()(function)
        finally:
            numba.config.CACHE_DIR = given


# PyTorch's own OpenMP, or ``None`` if it has none.
_parallel = getattr(ctypes.CDLL(torch._C.__file__), "GOMP_parallel", None)
_PROCESS = os.getpid()


def _share(work, rows, classes):
    """Call ``work(first, last)`` for all rows, in as many threads as PyTorch may use: its own, if
    its OpenMP is available, because after a matrix product these keep their cores busy."""
    step = rows_of(_SHARE, classes)
    threads = min(torch.get_num_threads(), -(-rows // step))
    if threads <= 1:
        work(0, rows)
        return
    starts, errors = iter(range(0, rows, step)), []

    def work_on(_):
        try:
            for first in starts:  # each goes to one thread
                work(first, min(first + step, rows))
        except BaseException as error:  # also an interrupt; ctypes would only print it
            errors.append(error)

    # In the child of a fork, OpenMP would wait for threads that do not exist.
    if _parallel is not None and os.getpid() == _PROCESS:
        _parallel(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work_on), None, threads, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work_on, range(threads)))
    if errors:
        raise errors[0]


def row_losses(logits, target, spec, scale, gradient=None):
    """Compiled: see :func:`el_fairseq.ops.reference.row_losses`."""
    (rows, classes), number = logits.shape, number_type(logits)
    if logits.dtype != number or not logits.is_contiguous():
        step = rows_of(CONVERTED, classes)
        buffer = logits.new_empty(min(rows, step), classes, dtype=number)

        def of_block(block):
            values = buffer[: block.stop - block.start].copy_(logits[block])
            of_values = None if gradient is None else values
            losses = row_losses(values, target[block], spec, scale[block], of_values)
            if gradient is not None:
                gradient[block] = values
            return losses

        return in_blocks(of_block, logits, step)
    gradient = logits[:0] if gradient is None else gradient
    kernel = _compiled(_rows, logits.dtype)
    inputs = [each.numpy() for each in (logits, target, scale, gradient)]
    results = [np.empty(rows, dtype) for dtype in (inputs[0].dtype, inputs[0].dtype, np.bool_)]
    options = spec.label_smoothing, spec.log_end, spec.bonus_start, spec.bonus_weight
    arguments = (*inputs, *results, spec.ignore_index, tuple(map(float, options)))
    _share(lambda first, last: kernel(first, last, *arguments), rows, classes)
    return RowLosses(*map(torch.from_numpy, results))


def count(target, classes, ignore_index):
    """See ``_count``."""
    return _compiled(_count)(target.numpy(), classes, ignore_index)
