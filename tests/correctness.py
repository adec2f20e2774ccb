"""Whether a kernel says of each row what ``argmax`` says."""

import torch

from el_fairseq.ops.bonus import Bonus, Spec

ROWS = [
    *([-1.0, -2.0, -3.0], [-0.0, 0.0, -1.0], [0.0, -0.0, -1.0], [2.0, 2.0, 1.0]),
    *([-torch.inf] * 3, [-torch.inf, -2.0, -torch.inf], [1.0, torch.inf, torch.inf]),
    *([5.0, torch.nan, torch.nan], [-torch.nan, 3.0, torch.inf], [1.0, 3.0, -torch.nan]),
]


def check_correctness(kernel, dtype):
    logits = torch.tensor(ROWS, dtype=dtype)
    scale = torch.ones(len(ROWS), dtype=torch.promote_types(dtype, torch.float32))
    for target in range(3):
        targets = torch.full((len(ROWS),), target)
        losses = kernel.row_losses(logits, targets, Spec(Bonus(), 0.1, -100), scale)
        assert torch.equal(losses.correct, logits.argmax(1) == targets)
