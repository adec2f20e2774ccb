"""Several experiments in one picture: BLEU of each loss, minus that of the first.

A dot is a seed; the mean over seeds stands with its 95 % interval.
"""

import argparse
from pathlib import Path

from ..common.cli import UserError, run
from ..common.files import writing
from ..experiments.results import read
from ..experiments.significance import over_seeds
from .figures import COLOURS, INK, panel, png

# BLEU up to which the axis is linear: one far comparison must not squeeze the others.
LINEAR = 3


def draw(comparisons):
    """PNG of comparisons, each its name and a list of the differences over seeds."""
    names, of_comparisons = zip(*comparisons)
    with panel(height=1 + 0.75 * len(names)) as (figure, axes):
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
        return png(figure)


def main():
    parser = argparse.ArgumentParser(prog="python -m el_fairseq.report.study", description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("folders", nargs="+", type=Path, help="folders with results.json")
    options = parser.parse_args()
    shown = []
    for results in map(read, options.folders):
        for loss in results.compared_losses():
            of_seeds = results.differences(loss, results.score("bleu"))
            if of_seeds:
                name = f"{results['experiment']}:\n{loss}, minus {results.baseline}"
                shown.append((name, list(of_seeds.values())))
    if not shown:
        raise UserError("no folder holds runs of two losses with the same seed: train them first")
    with writing(options.picture, "wb") as file:
        file.write(draw(shown))


if __name__ == "__main__":
    run(main)
