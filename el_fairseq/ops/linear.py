"""Loss and gradients of logits that are projected from hidden states, block by block."""

import torch

from .formula import in_blocks, number_type
from .rows import row_losses

# Entries of a block, 128 MiB of float32, on every device: large enough that adding each block's
# part to the gradient of the weight costs little beside the matrix products.
BLOCK = 2**25


def linear_losses(hidden, weight, bias, problem, scale, wanted):
    """Losses of ``hidden @ weight.T + bias``, and the gradients of ``sum(scale * loss)``.

    Args:
        hidden: (N, D); weight: (V, D); bias: (V,) or ``None``; all of one dtype.
        problem: target, options and class weights.
        scale: (N,), of the loss's dtype.
        wanted: which of the gradients of hidden, weight and bias to compute.

    Returns:
        :class:`~el_fairseq.ops.formula.RowLosses`, and the three gradients or ``None`` for each.
        Those of weight and bias are summed over blocks in float32 where the dtype is narrower.
    """
    number = number_type(hidden)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = torch.zeros_like(weight, dtype=number) if wanted[1] else None
    of_bias = weight.new_zeros(len(weight), dtype=number) if wanted[2] else None
    memory = hidden.new_empty(min(len(hidden), max(1, BLOCK // max(len(weight), 1))), len(weight))

    def of_block(block):
        logits = memory[: block.stop - block.start]
        if bias is None:
            torch.mm(hidden[block], weight.t(), out=logits)
        else:
            torch.addmm(bias, hidden[block], weight.t(), out=logits)
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

    losses = in_blocks(of_block, BLOCK, hidden, len(weight))
    gradients = of_hidden, of_weight, of_bias
    return losses, [None if each is None else each.to(hidden.dtype) for each in gradients]
