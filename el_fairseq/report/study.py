"""What the experiments that this repository keeps say: tables for people, and one picture.

The records are those of ``results.json`` that ``scripts/measure.sh`` completed. Comparisons of the
most seeds stand in full, side by side; those of fewer seeds, or of an experiment trained with other
options, a line each.
"""

import argparse
import logging
import math
import statistics
import textwrap
from pathlib import Path

from ..common.cli import UserError, run
from ..common.files import writing
from ..common.tables import Table
from ..experiments import results as found
from ..experiments.significance import over_seeds
from ..experiments.table import (
    by_loss,
    kind_name,
    mean_and_deviation,
    paired_differences,
    pairs,
)
from .figures import COLOURS, INK, PAGE, panel, png

HEIGHT_OF_A_ROW = 0.75
# A comparison that reaches further than this many times the middle one is told in numbers.
OFF_THE_AXIS = 3


def measures(results):
    """Columns of the table: title, form, and the function from a run's record to its value."""
    test, kind = results["tests"][0], results["checkpoints"][0]

    def bleu(checkpoints):
        return lambda record: record["scores"][test][checkpoints]["bleu"]

    def calibration(when, quantity, factor):
        return lambda record: factor * record["calibration"][when][quantity]

    nll, error = ("nll_nats", 1 / math.log(2)), ("expected_calibration_error", 100)
    return (
        ("BLEU", "{:.2f}", bleu(kind)),
        *((f"BLEU, {kind_name(one)}", "{:.2f}", bleu(one)) for one in results["checkpoints"][1:]),
        ("BLEU, beam 1", "{:.2f}", lambda record: record["beams"][test]["1"]["bleu"]),
        ("chrF", "{:.2f}", lambda record: record["scores"][test][kind]["chrf"]),
        ("TER (less is better)", "{:.2f}", lambda record: record["scores"][test][kind]["ter"]),
        ("validation accuracy, %", "{:.2f}", lambda record: record["valid_accuracy"]),
        ("validation nll, bits", "{:.3f}", lambda record: record["valid_nll"]),
        ("test nll, bits", "{:.3f}", calibration("before", *nll)),
        ("test nll after one temperature", "{:.3f}", calibration("after", *nll)),
        ("calibration error, %", "{:.2f}", calibration("before", *error)),
        ("calibration error after it, %", "{:.2f}", calibration("after", *error)),
        ("the temperature", "{:.3f}", lambda record: record["calibration"]["temperature"]),
    )


def differences(results, loss, value):
    """Loss minus baseline of a value of the records, one a seed."""
    return list(paired_differences(results, loss, value).values())


def table(all_results):
    """A row a measure: baseline, each loss, and what separates them over the seeds of both."""
    columns, comparisons = [""], []
    for results, loss in in_full(all_results):
        columns += [f"{pair(results, all_results)}: {baseline(results)}", loss, "difference"]
        cells = {title: cells_of(results, loss, *how) for title, *how in measures(results)}
        comparisons.append(cells)
    titles = dict.fromkeys(title for cells in comparisons for title in cells)
    empty = [""] * 3
    rows = [
        [title, *(cell for cells in comparisons for cell in cells.get(title, empty))]
        for title in titles
    ]
    return Table(None, columns, rows)


def other_table(all_results):
    """A row for each comparison that :func:`table` leaves out; ``None`` without one."""
    shown = ("BLEU", "validation accuracy, %", "calibration error, %")
    rows, full = [], in_full(all_results)
    for results, loss in compared(all_results):
        if (results, loss) in full:
            continue
        how = {title: how for title, *how in measures(results)}
        bleu, accuracy, error = (cells_of(results, loss, *how[title]) for title in shown)
        named = " ".join(
            [f"{pair(results, all_results)}: {loss}", *other_options(results, all_results)]
        )
        rows.append([named, str(len(pairs(results, loss))), *bleu, accuracy[2], *error[:2]])
    columns = ["", "seeds", "BLEU: CE", "EL", "difference", "accuracy, difference"]
    return Table(None, [*columns, "calibration error: CE", "EL"], rows) if rows else None


def baseline(results):
    """The loss that the others are compared with."""
    return results["losses"][0]


def pair(results, all_results):
    """Languages as in ``De-En``; the experiment's name where another one has the same."""
    languages = (results["source"], results["target"])
    same = {r["experiment"] for r in all_results if (r["source"], r["target"]) == languages}
    return "-".join(map(str.capitalize, languages)) if len(same) == 1 else results["experiment"]


def cells_of(results, loss, form, value):
    """Baseline, loss, and their difference by a value of the records, over the seeds of both."""
    both = zip(*pairs(results, loss).values())
    cells = [mean_and_deviation([value(record) for record in one], form) for one in both]
    return [*cells, difference_cell(differences(results, loss, value), form)]


def other_options(results, all_results):
    """fairseq-train options that an experiment was given beside its own, in another folder."""
    named = [one["options"] for one in all_results if one["experiment"] == results["experiment"]]
    return results["options"][len(min(named, key=len)) :]


def difference_cell(of_seeds, form):
    """Mean of differences, one a seed, with its 95 % interval where they are not all equal."""
    signed = form.replace("{:", "{:+")
    mean = signed.format(statistics.fmean(of_seeds))
    test = over_seeds(of_seeds)
    return f"{mean} [{signed.format(test.low)}, {signed.format(test.high)}]" if test else mean


def compared(all_results):
    """(results, loss) of every comparison with the baseline that has a seed."""
    return [
        (results, loss)
        for results in all_results
        for loss in by_loss(results)
        if loss != baseline(results) and pairs(results, loss)
    ]


def in_full(all_results):
    """Those of :func:`compared` with the most seeds, by an experiment's own options."""
    seeds = [(len(pairs(*one)), one) for one in compared(all_results)]
    most = max((count for count, _ in seeds), default=0)
    return [one for count, one in seeds if count == most and not other_options(one[0], all_results)]


def picture(all_results):
    """PNG of BLEU, each loss minus the baseline: a dot a seed, the mean with its 95 % interval."""
    lines = [
        (differences(*one, measures(one[0])[0][2]), name_of(*one, all_results))
        for one in compared(all_results)
    ]
    low, high = axis_of([ends_of(of_seeds) for of_seeds, _ in lines])
    with panel(height=1 + HEIGHT_OF_A_ROW * len(lines)) as (figure, axes):
        dot, mean = COLOURS[:2]
        axes.set_xlim(low, high)
        for y, (of_seeds, _) in enumerate(lines):
            axes.plot(of_seeds, [y - 0.2] * len(of_seeds), "o", color=dot, alpha=0.6, markersize=5)
            test = over_seeds(of_seeds)
            if test is not None:
                axes.plot([test.low, test.high], [y, y], color=mean, linewidth=2)
                axes.plot([test.mean], [y], "D", color=mean, markersize=6)
            first, last = ends_of(of_seeds)
            if first < low or last > high:
                left = first < low
                told = difference_cell(of_seeds, "{:.2f}")
                axes.annotate(
                    f"\N{LEFTWARDS ARROW} {told}" if left else f"{told} \N{RIGHTWARDS ARROW}",
                    (0.02 if left else 0.98, y),
                    xycoords=axes.get_yaxis_transform(),
                    ha="left" if left else "right",
                    va="center",
                    color=mean,
                    backgroundcolor=PAGE,
                )
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.set_yticks(range(len(lines)), [name for _, name in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        baselines = dict.fromkeys(baseline(results) for results in all_results)
        axes.set_xlabel(f"BLEU minus {' or '.join(baselines)}\n(seeds; mean, 95 % interval)")
        return png(figure)


def name_of(results, loss, all_results):
    """A comparison in a few lines: languages, loss, and what else differs."""
    other = textwrap.wrap(" ".join(other_options(results, all_results)), 24)
    return "\n".join([f"{pair(results, all_results)}: {loss}", *other])


def ends_of(of_seeds):
    """Least and greatest of differences, one a seed, and of their interval."""
    test = over_seeds(of_seeds)
    values = [*of_seeds, test.low, test.high] if test else of_seeds
    return min(values), max(values)


def axis_of(ends):
    """Ends of an axis that holds 0 and all comparisons but those far beyond the others.

    Args:
        ends: least and greatest value of each comparison.
    """
    reach = {pair: max(map(abs, pair)) for pair in ends}
    limit = OFF_THE_AXIS * statistics.median_low(reach.values())
    shown = [0, *(end for pair, furthest in reach.items() if furthest <= limit for end in pair)]
    margin = 0.06 * (max(shown) - min(shown)) or 1
    return min(shown) - margin, max(shown) + margin


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.report.study", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders with results.json")
    parser.add_argument("--picture", type=Path, help="where the differences go, as a PNG")
    options = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    all_results = [found.read(folder) for folder in options.folders]
    if not compared(all_results):
        raise UserError("no folder holds runs of two losses with the same seed: train them first")
    if options.picture:
        with writing(options.picture, "wb") as file:
            file.write(picture(all_results))
    print(table(all_results).text("github"), end="")
    others = other_table(all_results)
    if others:
        print(f"\n{others.text('github')}", end="")


if __name__ == "__main__":
    run(main)
