"""The literal formula of the encouraging loss, in float64: the yardstick of the tests."""

import math

import torch


def random_case(rows=7, classes=11, dtype=torch.float64, seed=0):
    """Logits (rows, classes), targets (rows,)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(classes, (rows,), generator=generator)


def literal_bonus(probs, log_end=0.5, bonus_start=0.0):
    """``b(p)`` entry by entry, as the paper writes it."""
    if log_end == 1:  # the normal bonus: 1 - p is floored at 1e-5
        curve = (1 - probs).clamp(min=1e-5).log()
    else:
        tangent = math.log(1 - log_end) - (probs - log_end) / (1 - log_end)
        on_curve = probs <= log_end
        # Not clamped, which has no gradient where p is log_end itself.
        curve = torch.where(on_curve, (1 - probs.masked_fill(~on_curve, 0)).log(), tangent)
    offset = math.log(1 - bonus_start)
    return torch.where(probs >= bonus_start, curve - offset, torch.zeros_like(curve))


def literal_losses(
    logits, target, label_smoothing=0.0, bonus_weight=1.0, class_weight=None, **of_bonus
):
    """``sum_k q_k * (-log p_k + w * b(p_k))`` of each row; logits (N, V), target (N,), -100 to
    ignore a row. ``class_weight`` (V,) is a factor of ``q``."""
    counts = target != -100
    log_probs = logits.double().log_softmax(-1)
    classes = logits.size(-1)
    q = torch.nn.functional.one_hot(target * counts, classes).double() * (1 - label_smoothing)
    q += label_smoothing / classes
    q *= 1 if class_weight is None else class_weight
    terms = -log_probs + bonus_weight * literal_bonus(log_probs.exp(), **of_bonus)
    return torch.where(q > 0, q * terms, torch.zeros_like(terms)).sum(-1).masked_fill(~counts, 0)


def loss_and_gradient(function, logits):
    """``function(logits)`` summed, and its gradient with respect to the logits."""
    logits = logits.detach().clone().requires_grad_()
    loss = function(logits).sum()
    loss.backward()
    return loss.detach(), logits.grad
