"""Losses of rows by the kernel of their device, and how much each row counts."""

import functools
import importlib
import warnings

import torch
from torch.autograd import forward_ad

from . import formula
from .bonus import Bonus, Spec

KERNELS = {"cpu": ".cpu", "cuda": ".gpu"}


def row_losses(logits, target, spec, scale, gradient=None, class_weight=None):
    """:func:`~el_fairseq.ops.formula.row_losses`, by the fastest version there is."""
    kernel = _kernel(logits.device, logits.dtype)
    if class_weight is None:
        return kernel.row_losses(logits, target, spec, scale, gradient)
    if spec.label_smoothing:  # takes a logarithm an entry, which the kernels do without
        return formula.row_losses(logits, target, spec, scale, gradient, class_weight)
    of_rows = weight_of_rows(target, spec, class_weight)
    results = kernel.row_losses(logits, target, spec, scale * of_rows, gradient)
    return results._replace(loss=results.loss * of_rows)


def weight_of_rows(target, spec, class_weight):
    """The weights (N,) of the targets' classes, 0 where ignored."""
    counts = target != spec.ignore_index
    return class_weight[target.masked_fill(~counts, 0)] * counts


@functools.lru_cache(maxsize=None)
def _kernel(device, dtype):
    """The module for logits on a device, of a dtype: cpu, gpu or formula.

    A kernel is tried on one row first: a compiler may be missing, or at odds with what else is.
    """
    name = KERNELS.get(device.type)
    if name is None or (name == ".gpu" and dtype == torch.float64):
        return formula
    try:
        kernel = importlib.import_module(name, __package__)
        logits = torch.zeros(1, 2, dtype=dtype, device=device)
        target = torch.zeros(1, dtype=torch.int64, device=device)
        scale = torch.ones(1, dtype=formula.number_type(logits), device=device)
        kernel.row_losses(logits, target, Spec(Bonus(), 0.1, -100), scale, logits)
        kernel.count(target, 2, -100)
    except Exception as error:
        _warn_once(device.type, f"{type(error).__name__}: {error}".partition("\n")[0])
        return formula
    return kernel


@functools.lru_cache(maxsize=None)
def _warn_once(device, reason):
    warnings.warn(
        f"the encouraging loss is slower than it could be on {device}, where its kernel does not "
        f"run ({reason})",
        stacklevel=2,
    )


def count(target, classes, spec):
    """The number of targets that are not ignored: a number, or a tensor of one that is at least 1.

    On a GPU, where to look at targets would be to wait, the device asserts that each is a class.

    Raises:
        ValueError: a target on the CPU is neither a class nor ignored.
    """
    kernel = _kernel(target.device, torch.float32)
    if kernel is not formula:
        number = kernel.count(target, classes, spec.ignore_index)
        if target.is_cuda or number >= 0:
            return number
    counts = target != spec.ignore_index
    is_wrong = counts & ((target < 0) | (target >= classes))
    if target.is_cuda:
        torch._assert_async(~is_wrong.any())
    elif target.device.type == "cpu" and is_wrong.any():
        raise ValueError(
            f"target holds class {target[is_wrong][0]}, expected 0 to {classes - 1} "
            f"or ignore_index ({spec.ignore_index})"
        )
    return counts.sum().clamp(min=1)


def multiply(values, factor):
    """Multiply values in place by a tensor: of one number, or one a row of them.

    Where it is 1 they are left alone; on a GPU the kernel sees that, and nobody waits.
    """
    if factor.dim():
        return values.mul_(factor.unsqueeze(1))
    if values.is_cuda and factor.is_cuda and values.is_contiguous():
        kernel = _kernel(values.device, values.dtype)
        if kernel is not formula:
            return kernel.multiply(values, factor)
    if factor.device.type == "cpu" and factor.item() == 1:
        return values
    return values.mul_(factor)


def have_memory(*tensors):
    """Whether kernels may read these tensors where they lie, unseen by PyTorch.

    Not while it compiles, traces or transforms functions, in forward mode, under a mode that
    watches all operations (FakeTensorMode is one), or where a tensor only stands for others.
    """
    return not (
        _is_compiling()
        or torch.jit.is_tracing()
        or forward_ad._current_level >= 0
        or _modes_active()
        or _transforms_active()
        or any(
            tensor.is_meta
            or type(tensor).__torch_dispatch__ is not _no_dispatch
            or _is_batched(tensor)
            for tensor in tensors
            if tensor is not None
        )
    )


def found(names, otherwise):
    """What the dotted names lead to in torch, or the alternative where this torch lacks it."""
    try:
        return functools.reduce(getattr, names.split("."), torch)
    except AttributeError:
        return otherwise


_no_dispatch = torch._C._disabled_torch_dispatch_impl
_is_compiling = found("compiler.is_compiling", lambda: False)
_transforms_active = found("_C._are_functorch_transforms_active", lambda: False)
_is_batched = found("_C._functorch.is_legacy_batchedtensor", lambda tensor: False)
_modes_active = found("_C._len_torch_dispatch_stack", lambda: 0)
