"""Loss and gradients of logits that are projected from hidden states, block by block."""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .rows import row_losses


class LinearLosses(NamedTuple):
    """Results a row, each (N,), as in ``RowLosses``; gradients of hidden, weight and bias."""

    loss: Tensor
    nll: Tensor
    hit: Tensor
    gradients: Tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor]]


def block_rows(rows, classes):
    """Rows of a block of 2**25 logits (128 MiB of float32), on every device.

    Large enough that adding each block's part to the gradient of the weight, a pass over all of
    it, costs little beside the matrix products.
    """
    return max(1, min(rows, 2**25 // max(classes, 1)))


def linear_losses(hidden, weight, bias, target, spec, scale, wanted):
    """Losses of ``hidden @ weight.T + bias``, and the gradients of ``scale * sum(loss)``.

    Args:
        hidden: (N, D); weight: (V, D); bias: (V,) or ``None``; all of one dtype.
        target, spec, scale: as for :func:`~el_fairseq.ops.rows.row_losses`.
        wanted: which of the gradients of hidden, weight and bias to compute.

    The gradients of weight and bias are summed over blocks in float32 where the dtype is narrower.
    """
    rows, classes = hidden.size(0), weight.size(0)
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    step = block_rows(rows, classes)
    logits = torch.empty(step, classes, dtype=hidden.dtype, device=hidden.device)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = of_bias = None
    if wanted[1]:
        of_weight = torch.empty_like(weight, dtype=wide)
        if not rows:
            of_weight.zero_()
    if wanted[2]:
        of_bias = torch.zeros(classes, dtype=wide, device=weight.device)
    losses = []
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        part = logits[: block.stop - start]
        if bias is None:
            torch.mm(hidden[block], weight.t(), out=part)
        else:
            torch.addmm(bias, hidden[block], weight.t(), out=part)
        results = row_losses(
            part, target[block], spec, scale if any(wanted) else None, in_place=True
        )
        losses.append(results[:3])
        if wanted[0]:
            torch.mm(part, weight, out=of_hidden[block])
        if wanted[1]:
            kept = 0 if start == 0 else 1
            if wide == hidden.dtype:
                torch.addmm(of_weight, part.t(), hidden[block], beta=kept, out=of_weight)
            else:
                product = part.t() @ hidden[block]
                of_weight.copy_(product) if not kept else of_weight.add_(product)
        if wanted[2]:
            of_bias += part.sum(0, dtype=wide)
    if not losses:
        empty = torch.empty(0, dtype=wide, device=hidden.device)
        losses = [(empty, empty, empty.bool())]
    loss, nll, hit = (torch.cat(column) for column in zip(*losses))
    gradients = (
        of_hidden,
        of_weight if of_weight is None else of_weight.to(weight.dtype),
        of_bias if of_bias is None else of_bias.to(weight.dtype),
    )
    return LinearLosses(loss, nll, hit, gradients)
