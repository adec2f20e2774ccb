"""The loss of rows as a differentiable operation of PyTorch."""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .bonus import Spec
from .formula import differentiable_losses, number_type
from .linear import linear_losses
from .rows import count, found, have_memory, is_batched, row_losses, weight_of_rows


def loss_of_rows(logits, target, spec, reduction, in_place=False, class_weight=None):
    """Loss of logits (N, V) against targets (N,), reduced; negative log-likelihood and hit a row.

    The gradient is computed with the loss, where it is required, and kept until the backward
    pass. With ``in_place`` it takes the place of the logits: they must not be read afterwards,
    and autograd refuses to if another operation has saved them.

    Raises:
        ValueError: a target on the CPU is neither a class nor ignored.
    """
    problem = _Problem(target, spec, reduction, _converted(class_weight, logits))
    if not have_memory(logits, target):
        return problem.formula_loss(logits)
    scale = problem.scale(number_type(logits), count(target, logits.size(1), spec))
    needed = torch.is_grad_enabled() and logits.requires_grad
    kept = [_Kept.apply(logits)] if needed and not in_place else None  # not an input by itself
    return _Rows.apply(logits if needed else logits.detach(), problem, scale, in_place, kept)


def loss_of_hidden(hidden, weight, bias, target, spec, reduction, class_weight=None):
    """The same of logits ``hidden @ weight.T + bias``, which are never there as a whole."""
    problem = _Problem(target, spec, reduction, _converted(class_weight, hidden))
    if not have_memory(hidden, weight, target):
        return problem.formula_loss(F.linear(hidden, weight, bias))
    scale = problem.scale(number_type(hidden), count(target, weight.size(0), spec))
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
        bias = None if bias is None else bias.detach()
    return _Linear.apply(hidden, weight, bias, problem, scale)


def _converted(class_weight, logits):
    return None if class_weight is None else class_weight.detach().to(number_type(logits))


class _Problem(NamedTuple):
    """What a loss is computed of, beside the logits."""

    target: Tensor
    spec: Spec
    reduction: str
    class_weight: Optional[Tensor]

    def scale(self, number, total=None):
        """What the loss of a row counts in the reduced one: a tensor of no dimensions.

        ``total``: of targets that are not ignored, where it is known.
        """
        device = self.target.device
        if self.reduction != "mean":
            return torch.ones((), dtype=number, device=device)
        if self.class_weight is not None:
            total = weight_of_rows(self.target, self.spec, self.class_weight).sum()
        elif isinstance(total, int):
            return torch.full((), 1 / max(total, 1), dtype=number, device=device)
        else:
            total = (self.target != self.spec.ignore_index).sum().to(number)
        return 1 / torch.where(total == 0, torch.ones_like(total), total)

    def reduced(self, losses, scale):
        if self.reduction == "none":
            return losses
        return losses.sum() * scale if self.reduction == "mean" else losses.sum()

    def formula_loss(self, logits):
        """Loss, nll and hit by operations that PyTorch can differentiate and transform."""
        losses, nll, hit = differentiable_losses(logits, self.target, self.spec, self.class_weight)
        return self.reduced(losses, self.scale(losses.dtype)), nll.detach(), hit

    def gradients(self, logits, inputs, grad_loss):
        """Gradients that are differentiable, with respect to what the logits are made of."""
        loss, _, _ = self.formula_loss(logits)
        return torch.autograd.grad(loss, inputs, grad_loss, create_graph=True)


class _Kept(torch.autograd.Function):
    """Holds logits for whoever differentiates their gradient again.

    A node of its own, which no backward pass runs through: as long as nobody asks for the logits
    they may be changed in place, as after ``F.cross_entropy``.
    """

    @staticmethod
    def forward(ctx, logits):
        ctx.save_for_backward(logits)
        return logits.new_empty(0)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, problem, scale, in_place, kept):
        ctx.problem, ctx.scale, ctx.kept = problem, scale, kept
        ctx.in_place = in_place = in_place and logits.is_contiguous()
        target, spec, _, class_weight = problem
        wanted = ctx.needs_input_grad[0]
        ctx.waits = wanted and _must_wait(logits)
        gradient = None
        if wanted and not ctx.waits:
            gradient = logits.detach() if in_place else _matrix_like(logits)
        results = row_losses(logits.detach(), target, spec, scale, gradient, class_weight)
        if gradient is not None and in_place:
            gradient[:0].zero_()  # for autograd, which does not see what kernels do
        if wanted:
            ctx.save_for_backward(logits if ctx.waits else gradient)
        ctx.mark_non_differentiable(results.nll, results.hit)
        return problem.reduced(results.loss, scale), results.nll, results.hit

    @staticmethod
    def backward(ctx, grad_loss, *_):
        (saved,) = ctx.saved_tensors
        if torch.is_grad_enabled() or (ctx.waits and is_batched(grad_loss)):
            if not (ctx.waits or ctx.kept):
                raise RuntimeError(
                    "a gradient of the encouraging loss that has taken the logits' place cannot "
                    "be differentiated again: leave inplace_backward out"
                )
            (logits,) = (saved,) if ctx.waits else ctx.kept[0].grad_fn.saved_tensors
            with torch.enable_grad():
                return (*ctx.problem.gradients(logits, [logits], grad_loss), *[None] * 4)
        again = _graph_is_kept()
        if not again:
            ctx.kept = None
        if not ctx.waits:
            return _times(saved, grad_loss, again), None, None, None, None
        target, spec, _, class_weight = ctx.problem
        gradient = saved if ctx.in_place and not again else _matrix_like(saved)
        row_losses(saved, target, spec, grad_loss * ctx.scale, gradient, class_weight)
        return gradient, None, None, None, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, problem, scale):
        ctx.problem, ctx.scale = problem, scale
        wanted = ctx.needs_input_grad[:3]
        ctx.waits = problem.reduction == "none" or _must_wait(hidden)
        inputs = [None if each is None else each.detach() for each in (hidden, weight, bias)]
        now = [False] * 3 if ctx.waits else wanted
        results, gradients = linear_losses(*inputs, problem, scale, now)
        if any(wanted):
            ctx.save_for_backward(hidden, weight, bias, *gradients)
        ctx.mark_non_differentiable(results.nll, results.hit)
        return problem.reduced(results.loss, scale), results.nll, results.hit

    @staticmethod
    def backward(ctx, grad_loss, *_):
        *inputs, of_hidden, of_weight, of_bias = ctx.saved_tensors
        gradients = of_hidden, of_weight, of_bias
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled() or (ctx.waits and is_batched(grad_loss)):
            with torch.enable_grad():
                needed = [each for each, is_wanted in zip(inputs, wanted) if is_wanted]
                found = iter(ctx.problem.gradients(F.linear(*inputs), needed, grad_loss))
            gradients = [next(found) if is_wanted else None for is_wanted in wanted]
        elif ctx.waits:
            _, gradients = linear_losses(*inputs, ctx.problem, grad_loss * ctx.scale, wanted)
        else:
            again = _graph_is_kept()
            gradients = [
                None if each is None else _times(each, grad_loss, again) for each in gradients
            ]
        return (*gradients, None, None)


def _must_wait(logits):
    """Whether the gradient must be computed in the backward pass.

    The range of float16 is too small for a factor that comes later: most entries are near
    ``label_smoothing / V``, which is 0 in float16 without the loss scale.
    """
    return logits.dtype == torch.float16


def _matrix_like(logits):
    return torch.empty_like(logits.detach(), memory_format=torch.contiguous_format)


def _times(gradient, grad_loss, again):
    """``gradient`` times one number, or one a row; in its own memory unless needed ``again``."""
    batched = is_batched(grad_loss)
    if grad_loss.dim():
        grad_loss = grad_loss.unsqueeze(1)
    elif not batched and grad_loss.device.type == "cpu" and grad_loss.item() == 1:
        return gradient.clone() if again else gradient
    return (
        (gradient * grad_loss).to(gradient.dtype) if again or batched else gradient.mul_(grad_loss)
    )


# Whether the running backward pass keeps the graph, so that another one may follow: where torch
# does not tell (before 2.1), it is taken to.
_graph_is_kept = found("_C._autograd._get_current_graph_task_keep_graph", lambda: True)
