"""Loss and gradients of logits that are projected from hidden states, block by block."""

import torch

from .formula import RowLosses, number_type
from .rows import row_losses


def block_rows(rows, classes):
    """Rows of a block of 2**25 logits (128 MiB of float32), on every device.

    Large enough that adding each block's part to the gradient of the weight, a pass over all of
    it, costs little beside the matrix products.
    """
    return max(1, min(rows, 2**25 // max(classes, 1)))


def linear_losses(hidden, weight, bias, problem, scale, wanted):
    """Losses of ``hidden @ weight.T + bias``, and the gradients of ``sum(scale * loss)``.

    Args:
        hidden: (N, D); weight: (V, D); bias: (V,) or ``None``; all of one dtype.
        problem: target, options, reduction and class weights.
        scale: of the loss's dtype, (N,) or ().
        wanted: which of the gradients of hidden, weight and bias to compute.

    Returns:
        :class:`~el_fairseq.ops.formula.RowLosses`, and the three gradients or ``None`` for each.
        Those of weight and bias are summed over blocks in float32 where the dtype is narrower.
    """
    target, spec, _, class_weight = problem
    rows, classes = hidden.size(0), weight.size(0)
    number = number_type(hidden)
    step = block_rows(rows, classes)
    logits = hidden.new_empty(min(step, rows), classes)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = torch.empty_like(weight, dtype=number) if wanted[1] else None
    of_bias = hidden.new_zeros(classes, dtype=number) if wanted[2] else None
    if wanted[1] and not rows:
        of_weight.zero_()
    losses = RowLosses.empty(hidden)
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        part = logits[: block.stop - start]
        if bias is None:
            torch.mm(hidden[block], weight.t(), out=part)
        else:
            torch.addmm(bias, hidden[block], weight.t(), out=part)
        of_block = row_losses(
            part,
            target[block],
            spec,
            scale[block] if scale.dim() else scale,
            part if any(wanted) else None,
            class_weight,
        )
        for result, part_of_it in zip(losses, of_block):
            result[block] = part_of_it
        if wanted[0]:
            torch.mm(part, weight, out=of_hidden[block])
        if wanted[1]:
            first = start == 0
            if number == hidden.dtype:
                torch.addmm(of_weight, part.t(), hidden[block], beta=not first, out=of_weight)
            else:
                product = part.t() @ hidden[block]
                of_weight.copy_(product) if first else of_weight.add_(product)
        if wanted[2]:
            of_bias += part.sum(0, dtype=number)
    gradients = [of_hidden, of_weight, of_bias]
    return losses, [None if each is None else each.to(hidden.dtype) for each in gradients]
