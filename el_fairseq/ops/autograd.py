"""The loss of rows as a differentiable operation of PyTorch."""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .bonus import Spec
from .formula import Rows, number_type
from .linear import linear_losses
from .rows import count, found, have_memory, multiply, row_losses, weight_of_rows


def loss_of_rows(logits, target, spec, reduction, in_place=False, class_weight=None):
    """Loss of logits (N, V) against targets (N,), reduced; each row's negative log-likelihood, and
    whether its largest logit is the target's.

    The gradient is computed with the loss, where it is required, and kept until the backward
    pass. With ``in_place`` it takes the place of the logits: they must not be read afterwards,
    and autograd refuses to if another operation has saved them.

    Raises:
        ValueError: a target on the CPU is neither a class nor ignored.
    """
    return _loss([logits], target, spec, reduction, class_weight, in_place)


def loss_of_hidden(hidden, weight, bias, target, spec, reduction, class_weight=None):
    """The same of logits ``hidden @ weight.T + bias``, which are never there as a whole."""
    return _loss([hidden, weight, bias], target, spec, reduction, class_weight)


def _loss(inputs, target, spec, reduction, class_weight, in_place=False):
    if class_weight is not None:
        class_weight = class_weight.detach().to(number_type(inputs[0]))
    problem = _Problem(target, spec, reduction, class_weight, in_place)
    if not have_memory(target, *inputs):
        return problem.formula_loss(inputs)
    classes = inputs[0].size(1) if len(inputs) == 1 else len(inputs[1])
    scale = problem.scale(count(target, classes, spec), number_type(inputs[0]))
    wanted = [each is not None and each.requires_grad for each in inputs]
    if not (torch.is_grad_enabled() and any(wanted)):
        losses, _ = problem.losses(inputs, scale, [False for _ in inputs])
        return problem.reduced(losses.loss, scale), losses.nll, losses.correct
    # Where each row's loss has a factor of its own, the projection's gradients cannot be computed
    # before it is known; and the range of float16 is too small for a factor that comes later: most
    # entries are near label_smoothing / V, which is 0 in float16 without the loss scale.
    waits = inputs[0].dtype == torch.float16 or (len(inputs) > 1 and reduction == "none")
    versions = _versions(inputs)
    now = [each and not waits for each in wanted]
    losses, gradients = problem.losses(inputs, scale, now, in_place)
    known = problem.reduced(losses.loss, scale), problem, scale, versions
    loss = _Loss.apply((*known, None if waits else gradients), *inputs)
    return loss, losses.nll, losses.correct


class _Problem(NamedTuple):
    """What a loss is computed of, beside its inputs: logits, or hidden states, weight and bias."""

    target: Tensor
    spec: Spec
    reduction: str
    class_weight: Optional[Tensor]
    in_place: bool

    def scale(self, total, number):
        """What the loss of a row counts in the reduced one, (1,); ``total`` targets count."""
        if self.reduction != "mean":
            total = 1
        elif self.class_weight is not None:
            total = weight_of_rows(self.target, self.spec, self.class_weight).sum()
            total = total + (total == 0)
        if isinstance(total, int):
            return torch.full((1,), 1 / max(total, 1), dtype=number, device=self.target.device)
        return total.to(number).reciprocal().reshape(1)

    def reduced(self, losses, scale):
        if self.reduction == "none":
            return losses
        return (losses if self.reduction == "sum" else losses * scale).sum()

    def formula_loss(self, inputs):
        """Loss, nll and correctness by operations that PyTorch can differentiate and transform."""
        logits = inputs[0] if len(inputs) == 1 else F.linear(*inputs)
        loss, nll, correct = Rows(logits, self.target, self.spec, self.class_weight).losses()
        counts = self.target != self.spec.ignore_index
        scale = self.scale(counts.sum().clamp(min=1), loss.dtype)
        return self.reduced(loss, scale), nll.detach(), correct

    def losses(self, inputs, scale, wanted, in_place=False):
        """By the kernels: :class:`RowLosses`, and the gradients of those inputs that are wanted."""
        inputs = [None if each is None else each.detach() for each in inputs]
        scale = scale.expand(len(self.target))
        if len(inputs) > 1:
            return linear_losses(*inputs, self, scale, wanted)
        (logits,), gradient = inputs, None
        if any(wanted):
            is_place = in_place and logits.is_contiguous()
            contiguous = torch.contiguous_format
            gradient = logits if is_place else torch.empty_like(logits, memory_format=contiguous)
        results = row_losses(logits, self.target, self.spec, scale, gradient, self.class_weight)
        if gradient is logits:
            gradient[:0].zero_()  # bump the version counter: the kernel wrote in place
        return results, [gradient]


class _Loss(torch.autograd.Function):
    """The loss with its gradients, or with what they will be computed of in the backward pass."""

    @staticmethod
    def forward(ctx, known, *inputs):
        loss, ctx.problem, ctx.scale, ctx.versions, gradients = known
        ctx.inputs, ctx.waits = inputs, gradients is None
        ctx.save_for_backward(*(inputs if ctx.waits else gradients))
        return loss

    @staticmethod
    def backward(ctx, grad_loss):
        saved, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:]
        again = _graph_is_kept()
        if torch.is_grad_enabled() or not have_memory(grad_loss):
            gradients = _differentiable_gradients(ctx, wanted, grad_loss)
        elif ctx.waits:
            in_place = ctx.problem.in_place and not again
            _, gradients = ctx.problem.losses(saved, grad_loss * ctx.scale, wanted, in_place)
        else:
            times = _times if again else multiply
            gradients = [each if each is None else times(each, grad_loss) for each in saved]
        if not again:
            ctx.inputs = None
        return (None, *gradients)


def _differentiable_gradients(ctx, wanted, grad_loss):
    # Inputs are not saved by autograd, so that they may be changed, as after F.cross_entropy, by
    # those who differentiate once.
    if _versions(ctx.inputs) != ctx.versions:
        raise RuntimeError(
            "the logits were overwritten (by inplace_backward, for one) after the encouraging loss "
            "was computed of them: its gradient cannot be differentiated again, or transformed"
        )
    with torch.enable_grad():
        loss, _, _ = ctx.problem.formula_loss(ctx.inputs)
        inputs = [each for each, is_wanted in zip(ctx.inputs, wanted) if is_wanted]
        gradients = iter(torch.autograd.grad(loss, inputs, grad_loss, create_graph=True))
    return [next(gradients) if is_wanted else None for is_wanted in wanted]


def _versions(inputs):
    return [None if each is None else each._version for each in inputs]


def _times(gradient, grad_loss):
    """``gradient`` times one number, or one a row, in memory of its own."""
    factor = grad_loss.unsqueeze(1) if grad_loss.dim() else grad_loss
    return (gradient * factor).to(gradient.dtype)


# Whether the running backward pass keeps the graph, so that another one may follow: where torch
# does not tell (before 2.1), it is taken to.
_graph_is_kept = found("_C._autograd._get_current_graph_task_keep_graph", lambda: True)
