"""The pictures of the READMEs.

``formula``: loss and gradient of cross-entropy and the encouraging loss against the probability of
the right token (arXiv 2110.06537, section 3). ``study``: BLEU of each loss of several experiments,
minus that of the first; a dot is a seed, and the mean over seeds stands with its 95 % interval.
"""

from pathlib import Path

import torch
from matplotlib.ticker import FixedLocator

from ..analysis.gradient import gradient_size
from ..common.cli import UserError, command_line, run
from ..common.files import writing
from ..experiments.results import read
from ..experiments.significance import over_seeds
from ..ops.reference import Spec
from .figures import line, panel, png

# BLEU up to which the axis is linear: one far comparison must not squeeze the others.
LINEAR = 3


def formula():
    """The picture of the loss, PNG."""
    p = torch.linspace(0.01, 0.99, 197, dtype=torch.float64)
    left, right = panel(8.4, 3.2, 2)
    for index, end in enumerate((None, 0.5, 0.75, 1)):
        name = f"EL, log end {end:g}" if end else "CE"
        bonus = Spec(end).bonus(p, 1 - p) if end else 0
        left.plot(p, bonus - p.log(), **line(index), label=name)
        # Of the L1 norm of the gradient, half is that of the right token.
        right.plot(p, gradient_size(p, end) / 2, **line(index))
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
            name = f"{results['experiment']}:\n{loss}, minus {results.baseline}"
            of_seeds = results.differences(loss, results.score("bleu"))
            comparisons.append((name, list(of_seeds.values())))
    if not comparisons:
        raise UserError("no folder holds runs of two losses with the same seed: train them first")
    names, of_comparisons = zip(*comparisons)
    axes = panel(height=1 + 0.75 * len(names))
    for y, of_seeds in enumerate(of_comparisons):
        axes.plot(of_seeds, [y - 0.2] * len(of_seeds), "C0o", alpha=0.6, markersize=5)
        test = over_seeds(of_seeds)
        if test is not None:
            axes.errorbar(test.mean, y, xerr=test.mean - test.low, fmt="C1D", markersize=6)
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=2)
    axes.xaxis.set_major_locator(FixedLocator((-30, -10, -3, -2, -1, 0, 1, 2, 3, 10, 30)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(0, color="black", linewidth=0.9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    scale = f"difference in BLEU, logarithmic beyond {LINEAR}"
    axes.set_xlabel(f"{scale}\n(seeds; mean, 95 % interval)")
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
