"""The loss and its gradient against the probability of the right token, as a picture.

``python -m el_fairseq.report.formula PICTURE`` draws cross-entropy and the encouraging loss with
several log ends (arXiv 2110.06537, section 3), by the functions that train.
"""

import argparse
from pathlib import Path

import torch

from ..common.cli import run
from ..common.files import writing
from ..loss import encouraging_loss
from .figures import COLOURS, LINES, panel, png


def curves(bonus_weight, log_end):
    """Probabilities, loss (nats) and size of the gradient in the right logit, of two classes."""
    p = torch.linspace(0.01, 0.99, 197, dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()], 1).requires_grad_()
    target = torch.zeros(len(p), dtype=torch.long)
    losses = encouraging_loss(
        logits, target, log_end=log_end, bonus_weight=bonus_weight, reduction="none"
    )
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    return p.numpy(), losses.detach().numpy(), -gradient[:, 0].numpy()


def draw():
    """The picture, PNG."""
    with panel(8.4, 3.2, 2) as (figure, (left, right)):
        of_el = [(f"EL, log end {end:g}", 1, end) for end in (0.5, 0.75, 1.0)]
        for (name, weight, end), colour, line in zip([("CE", 0, 0.5), *of_el], COLOURS, LINES):
            p, loss, gradient = curves(weight, end)
            left.plot(p, loss, color=colour, linestyle=line, label=name)
            right.plot(p, gradient, color=colour, linestyle=line)
        left.set(xlabel="probability p of the right token", ylabel="loss (nats)", ylim=(-4, 4))
        right.set(xlabel="probability p of the right token", ylim=(0, 1.1))
        right.set_ylabel("gradient in the right logit")
        left.legend()
        return png(figure)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.report.formula", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    with writing(arguments.picture, "wb") as file:
        file.write(draw())


if __name__ == "__main__":
    run(main)
