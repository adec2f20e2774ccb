"""The loss of rows of logits as an operation of PyTorch: kernel, gradient, projection."""

import functools
import importlib
import warnings
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from . import reference
from .reference import Spec, in_blocks, number_type, rows_of

KERNELS = {"cpu": ".cpu", "cuda": ".gpu"}
# Entries of a block, 128 MiB of float32, on every device: large enough that adding each block's
# part to the gradient of the weight costs little compared with the matrix products.
BLOCK = 2**25


def loss_of(inputs, target, spec, class_weight=None):
    """The reduced loss of rows. Also returns the negative log-likelihood of each row, and whether
    its largest logit is that of the target.

    The gradient, if required, is computed with the loss, or in the backward pass. With
    ``spec.inplace_backward`` it overwrites the logits: they must not be read afterwards, and if
    another operation has saved them, autograd raises an error.

    Args:
        inputs: the logits (N, V); or hidden states (N, D), weight (V, D) and bias (V,) or ``None``
            of a projection to logits, which are not all stored. Under autocast they have its dtype.
        target: (N,) int64.
        class_weight: (V,) or ``None``.

    Raises:
        ValueError: a target on the CPU is neither a class nor ignored.
    """
    if len(inputs) > 1:
        dtype = F.linear(inputs[0][:0], inputs[1][:1]).dtype
        inputs = [None if each is None else each.to(dtype) for each in inputs]
    dtype = inputs[0].dtype
    has_memory = have_memory(target, *inputs)
    if has_memory:
        classes = inputs[0].size(1) if len(inputs) == 1 else len(inputs[1])
        total = count(target, classes, spec, dtype)
    else:
        total = (target != spec.ignore_index).sum().clamp(min=1)
    scale, class_weight = _scale(target, spec, class_weight, total, number_type(inputs[0]))
    problem = _Problem(target, spec, class_weight, scale)
    if not has_memory or spec.base_loss == "mse":
        return problem.reference_loss(inputs)
    is_on = torch.is_grad_enabled()
    wanted = [is_on and each is not None and each.requires_grad for each in inputs]
    # With reduction "none", each row has its own factor: the projection's gradients must wait for
    # it, and PyTorch would multiply bfloat16 in a copy of float32. float16 has too small a range to
    # be multiplied by the loss scale later: without it, most entries, near eps / V, would be 0.
    is_late = len(inputs) > 1 or dtype == torch.bfloat16
    waits = dtype == torch.float16 or (is_late and spec.reduction == "none")
    versions = _versions(inputs) if any(wanted) else None  # inference tensors have none
    now = [each and not waits for each in wanted]
    losses, gradients = problem.losses(inputs, scale, now, spec.inplace_backward)
    loss = problem.reduced(losses.loss)
    if any(wanted):
        loss = _Loss.apply((loss, problem, versions, None if waits else gradients), *inputs)
    return loss, losses.nll, losses.correct


def _scale(target, spec, class_weight, total, number):
    """The factors (N,) of the rows' losses in the reduced loss, for ``total`` targets; and the
    class weights, or ``None`` where the factors contain them."""
    if class_weight is not None:
        class_weight, counts = class_weight.detach().to(number), target != spec.ignore_index
        weights = class_weight[target.masked_fill(~counts, 0)] * counts
    if spec.reduction != "mean":
        total = 1
    elif class_weight is not None:
        total = weights.sum()
        total = total + (total == 0)
    if isinstance(total, int):
        scale = torch.full(target.shape, 1 / max(total, 1), dtype=number, device=target.device)
    else:
        scale = total.to(number).reciprocal().expand(target.shape)
    if class_weight is None or spec.label_smoothing:  # smoothed, it has the weights of all classes
        return scale, class_weight
    return scale * weights, None


class _Problem(NamedTuple):
    """What defines a loss besides its inputs (logits, or hidden states, weight and bias)."""

    target: Tensor
    spec: Spec
    class_weight: Optional[Tensor]
    scale: Tensor  # of the rows' losses in the reduced loss, (N,)

    def reduced(self, losses):
        return losses if self.spec.reduction == "none" else losses.sum()

    def reference_loss(self, inputs):
        """Loss, nll and correctness by operations that PyTorch can differentiate and transform."""
        logits = inputs[0] if len(inputs) == 1 else F.linear(*inputs)
        loss, nll, correct = reference.losses(logits, self.target, self.spec, self.class_weight)
        return self.reduced(loss * self.scale), nll.detach(), correct

    def losses(self, inputs, scale, wanted, in_place=False):
        """The kernels' :class:`RowLosses`, and the gradients of the inputs that are wanted."""
        inputs = [None if each is None else each.detach() for each in inputs]
        if len(inputs) > 1:
            return projection_losses(*inputs, self, scale, wanted)
        (logits,), gradient = inputs, None
        if any(wanted) and in_place and logits.is_contiguous():
            gradient = logits
        elif any(wanted):
            gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        results = row_losses(logits, self.target, self.spec, scale, gradient, self.class_weight)
        if gradient is logits:
            gradient[:0].zero_()  # bump the version counter: the kernel wrote in place
        return results, [gradient]


class _Loss(torch.autograd.Function):
    """Saves the gradients, or the inputs if the backward pass must compute the gradients."""

    @staticmethod
    def forward(ctx, known, *inputs):
        loss, ctx.problem, ctx.versions, gradients = known
        ctx.inputs, ctx.waits = inputs, gradients is None
        ctx.save_for_backward(*(inputs if ctx.waits else gradients))
        return loss

    @staticmethod
    def backward(ctx, grad_loss):
        saved, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:]
        problem, again = ctx.problem, _graph_is_kept()
        if torch.is_grad_enabled() or not have_memory(grad_loss):
            gradients = _differentiable_gradients(ctx, wanted, grad_loss)
        elif ctx.waits:
            in_place = problem.spec.inplace_backward and not again
            _, gradients = problem.losses(saved, grad_loss * problem.scale, wanted, in_place)
        else:
            gradients = [each if each is None else times(each, grad_loss, again) for each in saved]
        if not again:
            ctx.inputs = None
        return (None, *gradients)


def _differentiable_gradients(ctx, wanted, grad_loss):
    # Autograd does not save the inputs, so that they may be changed after the loss, as with
    # F.cross_entropy, if it is differentiated once.
    if _versions(ctx.inputs) != ctx.versions:
        raise RuntimeError(
            "the logits were overwritten (by inplace_backward, for one) after the encouraging loss "
            "was computed: its gradient cannot be differentiated again, or transformed"
        )
    with torch.enable_grad():
        loss, _, _ = ctx.problem.reference_loss(ctx.inputs)
        inputs = [each for each, is_wanted in zip(ctx.inputs, wanted) if is_wanted]
        gradients = iter(torch.autograd.grad(loss, inputs, grad_loss, create_graph=True))
    return [next(gradients) if is_wanted else None for is_wanted in wanted]


def _versions(inputs):
    return [None if each is None else each._version for each in inputs]


def projection_losses(hidden, weight, bias, problem, scale, wanted):
    """``scale`` times losses of ``hidden @ weight.T + bias``, and the gradients of their sum.

    The three inputs have one dtype. Those of their gradients that are not ``wanted`` are ``None``.
    Those of weight and bias are summed over blocks in float32 at least.
    """
    number = number_type(hidden)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = torch.zeros_like(weight, dtype=number) if wanted[1] else None
    of_bias = weight.new_zeros(len(weight), dtype=number) if wanted[2] else None
    step = 16 * rows_of(BLOCK, 16 * len(weight))  # 128 rows take MKL 14 % less time than 131
    part = 512 if hidden.device.type == "cpu" else len(weight)  # classes at a time; another 10 %
    memory = hidden.new_empty(min(len(hidden), step), len(weight))

    def of_block(block):
        logits = memory[: block.stop - block.start]
        outs, beta = logits.split(part, 1), float(bias is not None)  # 0: the start is not read
        starts = outs if bias is None else bias.split(part)
        for out, start, rows in zip(outs, starts, weight.split(part)):
            torch.addmm(start, hidden[block], rows.t(), beta=beta, out=out)
        of_rows = logits, problem.target[block], problem.spec, scale[block]
        losses = row_losses(*of_rows, logits if any(wanted) else None, problem.class_weight)
        if wanted[0]:
            torch.mm(logits, weight, out=of_hidden[block])
        if wanted[1] and number == hidden.dtype:
            of_weight.addmm_(logits.t(), hidden[block])
        elif wanted[1]:
            of_weight.add_(logits.t() @ hidden[block])
        if wanted[2]:
            of_bias.add_(logits.sum(0, dtype=number))
        return losses

    losses = in_blocks(of_block, hidden, step)
    gradients = of_hidden, of_weight, of_bias
    return losses, [None if each is None else each.to(hidden.dtype) for each in gradients]


def row_losses(logits, target, spec, scale, gradient=None, class_weight=None):
    """:func:`~el_fairseq.ops.reference.row_losses`, by the fastest version there is."""
    if class_weight is not None:  # a logarithm for each entry, which the kernels do not compute
        return reference.row_losses(logits, target, spec, scale, gradient, class_weight)
    return _kernel(logits.device, logits.dtype).row_losses(logits, target, spec, scale, gradient)


@functools.lru_cache(maxsize=None)
def _kernel(device, dtype):
    """The module for logits of a device and dtype: cpu, gpu or reference. A kernel is tried on one
    row first: a compiler may be missing or incompatible."""
    name = KERNELS.get(device.type)
    if name is None or (name == ".gpu" and dtype == torch.float64):
        return reference
    try:
        kernel = importlib.import_module(name, __package__)
        logits = torch.zeros(1, 2, dtype=dtype, device=device)
        target = torch.zeros(1, dtype=torch.int64, device=device)
        scale = torch.ones(1, dtype=number_type(logits), device=device)
        kernel.row_losses(logits, target, Spec(label_smoothing=0.1), scale, logits)
        kernel.count(target, 2, -100)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        warnings.warn(
            f"the encouraging loss is slower than it could be on {device.type}: its kernel does "
            f"not run there ({reason})",
            stacklevel=2,
        )
        return reference
    return kernel


def count(target, classes, spec, dtype):
    """The number of targets that are not ignored: a number, or a tensor of one that is at least 1.

    The kernel for logits of ``dtype`` counts, so that no other has to be compiled. On a GPU the
    device asserts that each target is a class: reading it here would wait for the device.

    Raises:
        ValueError: a target on the CPU is neither a class nor ignored.
    """
    kernel = _kernel(target.device, dtype)
    if kernel is not reference:
        number = kernel.count(target, classes, spec.ignore_index)
        if target.is_cuda or number >= 0:
            return number
    counts = target != spec.ignore_index
    is_wrong = counts & ((target < 0) | (target >= classes))
    if target.device.type == "cpu" and is_wrong.any():  # elsewhere the device may assert it
        raise ValueError(
            f"target holds class {target[is_wrong][0]}, expected 0 to {classes - 1} "
            f"or ignore_index ({spec.ignore_index})"
        )
    return counts.sum().clamp(min=1)


def times(values, factor, is_kept):
    """Values times a tensor of one number, or of one for each row; in place unless kept. A factor
    of 1 changes nothing. On a GPU the kernel checks that, so that the host does not wait."""
    if factor.dim():
        return values * factor.unsqueeze(1) if is_kept else values.mul_(factor.unsqueeze(1))
    if is_kept:
        return values * factor
    if factor.device.type == "cpu" and factor.item() == 1:
        return values
    kernel = _kernel(values.device, values.dtype) if values.is_cuda else reference
    return values.mul_(factor) if kernel is reference else kernel.multiply(values, factor)


def have_memory(*tensors):
    """Whether kernels may access the memory of these tensors directly.

    Not while PyTorch compiles, traces or transforms functions, in forward mode, under a mode that
    intercepts all operations (such as FakeTensorMode), or if a tensor has no memory of its own.
    """
    return not (
        _is_compiling()
        or torch._C._is_tracing()
        or forward_ad._current_level >= 0
        or _modes_active()
        or _transforms_active()
        or any(
            type(tensor).__torch_dispatch__ is not _no_dispatch or _is_batched(tensor)
            for tensor in tensors
            if tensor is not None
        )
    )


_no_dispatch = torch._C._disabled_torch_dispatch_impl
# Older versions of torch lack some of these.
_is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)
_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_is_batched = getattr(getattr(torch._C, "_functorch", 0), "is_legacy_batchedtensor", lambda _: 0)
_modes_active = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
# Whether the running backward pass keeps the graph, so that another one may follow. Before 2.1
# torch does not tell: then assume that it does.
_graph_is_kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
