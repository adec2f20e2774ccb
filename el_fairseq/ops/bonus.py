"""The bonus as a function of a probability, and the options of the loss."""

import math
from typing import NamedTuple

import torch

# Where the log curve runs to the end (log_end = 1), 1 - p is floored here, as in the authors'
# code: beyond, the bonus and its gradient are flat.
FLOOR = 1e-5


class Bonus(NamedTuple):
    """``weight * b(p)``: how much a probability ``p`` is encouraged (section 3 of the paper).

    ``b(p) = log(1 - p)`` up to ``p = log_end`` and its tangent beyond (conservative bonus); with
    a ``start`` above 0 there is no bonus below it, and ``log(1 - p) - log(1 - start)`` from there
    on (aggressive bonus). ``weight = 0`` is no bonus at all: cross-entropy.
    """

    log_end: float = 0.5
    start: float = 0.0
    weight: float = 1.0

    def value(self, p, q):
        """``b(p)`` in nats, never positive; ``q = 1 - p`` is given apart for its precision."""
        if self.log_end == 1:
            value = q.clamp(min=FLOOR).log()
        else:
            end = 1 - self.log_end
            value = torch.where(q > end, q.clamp(min=end).log(), q / end - 1 + math.log(end))
        if self.start:
            value = (value - math.log1p(-self.start)).masked_fill(p < self.start, 0)
        return value

    def slope(self, p, q):
        """``-p b'(p)``, the bonus's derivative with respect to ``log p``, negated: 0 or more."""
        if self.log_end == 1:
            return (p / q.clamp(min=FLOOR)).masked_fill((q < FLOOR) | (p < self.start), 0)
        return (p / q.clamp(min=1 - self.log_end)).masked_fill(p < self.start, 0)


class Spec(NamedTuple):
    """What is computed of each row: the options of the loss, in PyTorch's convention."""

    bonus: Bonus
    label_smoothing: float
    ignore_index: int
