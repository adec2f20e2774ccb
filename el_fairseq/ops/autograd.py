"""The kernels as differentiable operations of PyTorch."""

from typing import Tuple

import torch
from torch import Tensor

from .bonus import Bonus
from .linear import linear_losses
from .rows import Spec, row_losses


def loss_of_rows(logits, target, spec, reduction, in_place=False):
    """Loss of logits (N, V) against targets (N,), reduced; negative log-likelihood and hit a row.

    The gradient is computed with the loss, where it is required, and kept until the backward
    pass. With ``in_place`` it takes the place of the logits: they must not be read afterwards,
    and autograd refuses to if another operation has saved them.
    """
    if _is_compiling():
        losses, nll, hit, _ = torch.ops.el_fairseq.row_losses(
            logits, target, *spec.bonus, *spec[1:], torch.is_grad_enabled() and logits.requires_grad
        )
        if reduction == "none":
            return losses, nll, hit
        return losses.sum() * _scale(target, spec, reduction), nll, hit
    if not torch.is_grad_enabled():
        logits = logits.detach()
    return _RowsFunction.apply(logits, target, spec, reduction, in_place)


def loss_of_hidden(hidden, weight, bias, target, spec, reduction):
    """The same of logits ``hidden @ weight.T + bias``, which are never there as a whole."""
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
        bias = None if bias is None else bias.detach()
    return _LinearFunction.apply(hidden, weight, bias, target, spec, reduction)


# Most entries of a gradient are near label_smoothing / V, which float16 cannot tell from 0: there
# it is kept 1024 times as large. None is far above 1, so nothing overflows.
_FLOAT16_SCALE = 1024.0


def _scale(target, spec, reduction):
    """What a row's loss counts in the reduced loss: a number on the CPU, else a tensor."""
    if reduction != "mean":
        return 1.0
    count = (target != spec.ignore_index).sum().clamp(min=1)
    return 1 / (count.item() if target.device.type == "cpu" and not _is_compiling() else count)


def _reduced(losses, scale, reduction):
    return losses if reduction == "none" else losses.sum() * scale


class _RowsFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, target, spec, reduction, in_place):
        scale = _scale(target, spec, reduction)
        wanted = ctx.needs_input_grad[0]
        ctx.kept_scale = _FLOAT16_SCALE if logits.dtype == torch.float16 else 1.0
        gradient_scale = scale * ctx.kept_scale if wanted else None
        results = row_losses(logits.detach(), target, spec, gradient_scale, in_place)
        if wanted:
            ctx.save_for_backward(results.gradient)
        ctx.mark_non_differentiable(results.nll, results.hit)
        return _reduced(results.loss, scale, reduction), results.nll, results.hit

    @staticmethod
    def backward(ctx, grad_loss, *_):
        (gradient,) = ctx.saved_tensors
        return _times(gradient, grad_loss, ctx.kept_scale), None, None, None, None


class _LinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, target, spec, reduction):
        scale = _scale(target, spec, reduction)
        if reduction == "none" and any(ctx.needs_input_grad[:3]):
            raise ValueError("reduction 'none' has no gradient without the logits; take 'sum'")
        bias_data = None if bias is None else bias.detach()
        ctx.kept_scale = _FLOAT16_SCALE if hidden.dtype == torch.float16 else 1.0
        results = linear_losses(
            hidden.detach(),
            weight.detach(),
            bias_data,
            target,
            spec,
            scale * ctx.kept_scale,
            ctx.needs_input_grad[:3],
        )
        ctx.save_for_backward(*results.gradients)
        ctx.mark_non_differentiable(results.nll, results.hit)
        return _reduced(results.loss, scale, reduction), results.nll, results.hit

    @staticmethod
    def backward(ctx, grad_loss, *_):
        gradients = [
            None if kept is None else _times(kept, grad_loss, ctx.kept_scale)
            for kept in ctx.saved_tensors
        ]
        return (*gradients, None, None, None)


class _DifferentiatedOnce(torch.autograd.Function):
    """The identity, for a gradient that does not know how it depends on the logits."""

    @staticmethod
    def forward(ctx, gradient):
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            "the gradient of the encouraging loss cannot be differentiated again: "
            "it is computed together with the loss, outside of the graph"
        )


def _times(gradient, grad_loss, kept_scale):
    """``gradient * grad_loss / kept_scale``, for a ``grad_loss`` of one element or one a row.

    In the memory of ``gradient`` where no further backward pass will read it.
    """
    if torch.is_grad_enabled():  # create_graph=True: a second differentiation may follow
        with torch.no_grad():
            gradient = _times(gradient, grad_loss, kept_scale)
        return _DifferentiatedOnce.apply(gradient.detach().requires_grad_())
    if grad_loss.device.type == "cpu" and bool((grad_loss == kept_scale).all()):
        return gradient
    factor = grad_loss / kept_scale
    if factor.dim():
        factor = factor.unsqueeze(1)
    return (gradient * factor).to(gradient.dtype) if _graph_is_kept() else gradient.mul_(factor)


# Whether the running backward pass keeps the graph, so that another one may follow: where torch
# does not tell (before 2.1), it is taken to.
_graph_is_kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
_is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)

if hasattr(torch.library, "custom_op"):  # torch 2.4 and later

    @torch.library.custom_op("el_fairseq::row_losses", mutates_args=())
    def _row_losses_op(
        logits: Tensor,
        target: Tensor,
        log_end: float,
        bonus_start: float,
        bonus_weight: float,
        label_smoothing: float,
        ignore_index: int,
        with_gradient: bool,
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        spec = Spec(Bonus(log_end, bonus_start, bonus_weight), label_smoothing, ignore_index)
        kept_scale = _FLOAT16_SCALE if logits.dtype == torch.float16 else 1.0
        results = row_losses(logits, target, spec, kept_scale if with_gradient else None)
        gradient = results.gradient if with_gradient else logits.new_empty(0)
        return results.loss, results.nll, results.hit, gradient

    @_row_losses_op.register_fake
    def _(logits, target, *options):
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        loss = torch.empty_like(target, dtype=dtype)
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        return (
            loss,
            torch.empty_like(loss),
            torch.empty_like(target, dtype=torch.bool),
            gradient if options[-1] else logits.new_empty(0),
        )

    def _setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[3])
        ctx.mark_non_differentiable(*output[1:])

    def _backward(ctx, grad_loss, *_):
        (gradient,) = ctx.saved_tensors
        kept_scale = _FLOAT16_SCALE if gradient.dtype == torch.float16 else 1.0
        grad_logits = gradient * (grad_loss / kept_scale).unsqueeze(1)
        return (grad_logits.to(gradient.dtype), *[None] * 7)

    _row_losses_op.register_autograd(_backward, setup_context=_setup_context)
