"""The pictures of the READMEs.

``formula``: loss and gradient of cross-entropy and the encouraging loss against the probability of
the right token, by the functions that train (arXiv 2110.06537, section 3). ``study``: BLEU of each
loss of several experiments, minus that of the first; a dot is a seed, and the mean over seeds
stands with its 95 % interval.
"""

from pathlib import Path

import torch

from ..common.cli import UserError, command_line, run
from ..common.files import writing
from ..experiments.results import read
from ..experiments.significance import over_seeds
from ..loss import encouraging_loss
from .figures import COLOURS, INK, LINES, panel, png

# BLEU up to which the axis is linear: one far comparison must not squeeze the others.
LINEAR = 3


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


def formula():
    """The picture of the loss, PNG."""
    with panel(8.4, 3.2, 2) as (left, right):
        of_el = [(f"EL, log end {end:g}", 1, end) for end in (0.5, 0.75, 1.0)]
        for (name, weight, end), colour, line in zip([("CE", 0, 0.5), *of_el], COLOURS, LINES):
            p, loss, gradient = curves(weight, end)
            left.plot(p, loss, color=colour, linestyle=line, label=name)
            right.plot(p, gradient, color=colour, linestyle=line)
        x = "probability p of the right token"
        left.set(xlabel=x, ylabel="loss (nats)", ylim=(-4, 4))
        right.set(xlabel=x, ylabel="gradient in the right logit", ylim=(0, 1.1))
        left.legend()
        return png(left)


def study(folders):
    """The picture of the results in some folders, PNG."""
    comparisons = []
    for results in map(read, folders):
        for loss in results.compared_losses():
            of_seeds = list(results.differences(loss, results.score("bleu")).values())
            name = f"{results['experiment']}:\n{loss}, minus {results.baseline}"
            comparisons.append((name, of_seeds))
    if not comparisons:
        raise UserError("no folder holds runs of two losses with the same seed: train them first")
    names, of_comparisons = zip(*comparisons)
    with panel(height=1 + 0.75 * len(names)) as axes:
        dot, mean = COLOURS[:2]
        for y, of_seeds in enumerate(of_comparisons):
            axes.plot(of_seeds, [y - 0.2] * len(of_seeds), "o", color=dot, alpha=0.6, markersize=5)
            test = over_seeds(of_seeds)
            if test is not None:
                axes.plot([test.low, test.high], [y, y], color=mean, linewidth=2)
                axes.plot([test.mean], [y], "D", color=mean, markersize=6)
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=2)
        low, high = axes.get_xlim()
        ticks = (-30, -10, -3, -2, -1, 0, 1, 2, 3, 10, 30)
        axes.set_xticks([tick for tick in ticks if low <= tick <= high])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        scale = f", logarithmic beyond {LINEAR}" if max(-low, high) > LINEAR else ""
        axes.set_xlabel(f"difference in BLEU{scale}\n(seeds; mean, 95 % interval)")
        return png(axes)


def main():
    parser = command_line("python -m el_fairseq.report.pictures", __doc__)
    parser.add_argument("which", choices=("formula", "study"))
    parser.add_argument("picture", type=Path)
    parser.add_argument("folders", nargs="*", type=Path, help="of the study: with results.json")
    options = parser.parse_args()
    picture = formula() if options.which == "formula" else study(options.folders)
    with writing(options.picture, "wb") as file:
        file.write(picture)


if __name__ == "__main__":
    run(main)
