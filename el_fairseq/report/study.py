"""What the experiments that this repository keeps say: tables for people, and one picture.

The records are those of ``results.json`` that ``scripts/measure.sh`` completed. Comparisons of the
most seeds stand in full, side by side; those of fewer seeds, a line each.
"""

import argparse
import logging
import statistics
from pathlib import Path

from ..common.cli import UserError, run
from ..common.files import writing
from ..common.tables import Table
from ..experiments import results as experiment_results
from ..experiments.significance import over_seeds
from ..experiments.table import (
    ERROR_PERCENT,
    NLL_BITS,
    calibration_of,
    compared_losses,
    differences,
    kind_name,
    means,
    paired,
    score_in,
)
from .figures import COLOURS, INK, panel, png

# BLEU up to which the picture's axis is linear: one far comparison must not squeeze the others.
LINEAR = 3


def quantities(results):
    """Rows of the table: title, form, and the function from a run's record to its value."""
    test = results["tests"][0]
    return (
        ("BLEU", "{:.2f}", score_in(results, "bleu")),
        *(
            (f"BLEU, {kind_name(other)}", "{:.2f}", score_in(results, "bleu", kind=other))
            for other in results["checkpoints"][1:]
        ),
        ("BLEU, beam 1", "{:.2f}", lambda record: record["beams"][test]["1"]["bleu"]),
        ("chrF", "{:.2f}", score_in(results, "chrf")),
        ("TER (less is better)", "{:.2f}", score_in(results, "ter")),
        ("validation accuracy, %", "{:.2f}", lambda record: record["valid_accuracy"]),
        ("validation nll, bits", "{:.3f}", lambda record: record["valid_nll"]),
        ("test nll, bits", "{:.3f}", calibration_of("before", *NLL_BITS)),
        ("test nll after one temperature", "{:.3f}", calibration_of("after", *NLL_BITS)),
        ("calibration error, %", "{:.2f}", calibration_of("before", *ERROR_PERCENT)),
        ("calibration error after it, %", "{:.2f}", calibration_of("after", *ERROR_PERCENT)),
        ("the temperature", "{:.3f}", lambda record: record["calibration"]["temperature"]),
    )


def cells(results, loss):
    """By a quantity's title the cells of baseline, loss, and what separates them over the seeds."""
    columns, made = quantities(results), {}
    both = [means(records, columns) for records in zip(*paired(results, loss).values())]
    for (title, form, value), *of_losses in zip(columns, *both):
        of_seeds = list(differences(results, loss, value).values())
        signed, test = form.replace("{:", "{:+"), over_seeds(of_seeds)
        difference = signed.format(statistics.fmean(of_seeds))
        if test:
            difference += f" [{signed.format(test.low)}, {signed.format(test.high)}]"
        made[title] = [*of_losses, difference]
    return made


def table(all_results):
    """A row a quantity: baseline, each loss, and what separates them over the seeds of both."""
    columns, comparisons = [""], []
    for results, loss in in_full(all_results):
        baseline = f"{pair(results, all_results)}: {results['losses'][0]}"
        columns += [baseline, loss, "difference"]
        comparisons.append(cells(results, loss))
    titles = dict.fromkeys(title for one in comparisons for title in one)
    empty = [""] * 3
    rows = [
        [title, *(cell for one in comparisons for cell in one.get(title, empty))]
        for title in titles
    ]
    return Table(None, columns, rows)


def other_table(all_results):
    """A row for each comparison that :func:`table` leaves out; ``None`` without one."""
    rows, full = [], in_full(all_results)
    for results, loss in compared(all_results):
        if (results, loss) not in full:
            made = cells(results, loss)
            name = f"{pair(results, all_results)}: {loss}"
            row = [name, str(len(paired(results, loss))), *made["BLEU"]]
            row += [made["validation accuracy, %"][2], *made["calibration error, %"][:2]]
            rows.append(row)
    columns = ["", "seeds", "BLEU: CE", "EL", "difference", "accuracy, difference"]
    return Table(None, [*columns, "calibration error: CE", "EL"], rows) if rows else None


def pair(results, all_results):
    """Languages as in ``De-En``; the experiment's name where another one has the same."""
    languages = (results["source"], results["target"])
    same = {r["experiment"] for r in all_results if (r["source"], r["target"]) == languages}
    return "-".join(map(str.capitalize, languages)) if len(same) == 1 else results["experiment"]


def compared(all_results):
    """(results, loss) of every comparison with the baseline that has a seed."""
    return [
        (results, loss)
        for results in all_results
        for loss in compared_losses(results)
        if paired(results, loss)
    ]


def in_full(all_results):
    """Those of :func:`compared` with the most seeds."""
    seeds = [len(paired(*one)) for one in compared(all_results)]
    return [one for one, count in zip(compared(all_results), seeds) if count == max(seeds)]


def picture(all_results):
    """PNG of BLEU, each loss minus the baseline: a dot a seed, the mean with its 95 % interval."""
    lines = compared(all_results)
    with panel(height=1 + 0.75 * len(lines)) as (figure, axes):
        dot, mean = COLOURS[:2]
        for y, (results, loss) in enumerate(lines):
            of_seeds = list(differences(results, loss, score_in(results, "bleu")).values())
            axes.plot(of_seeds, [y - 0.2] * len(of_seeds), "o", color=dot, alpha=0.6, markersize=5)
            test = over_seeds(of_seeds)
            if test is not None:
                axes.plot([test.low, test.high], [y, y], color=mean, linewidth=2)
                axes.plot([test.mean], [y], "D", color=mean, markersize=6)
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=2)
        ticks = [-30, -10, -3, -2, -1, 0, 1, 2, 3, 10, 30]
        low, high = axes.get_xlim()
        axes.set_xticks([tick for tick in ticks if low <= tick <= high])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.axvline(0, color=INK, linewidth=0.9)
        names = [f"{pair(results, all_results)}: {loss}" for results, loss in lines]
        axes.set_yticks(range(len(lines)), names)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        baselines = " or ".join(dict.fromkeys(one["losses"][0] for one in all_results))
        scale = f", logarithmic beyond {LINEAR}" if max(-low, high) > LINEAR else ""
        axes.set_xlabel(f"BLEU minus {baselines}{scale}\n(seeds; mean, 95 % interval)")
        return png(figure)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.report.study", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders with results.json")
    parser.add_argument("--picture", type=Path, help="where the differences go, as a PNG")
    options = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    all_results = [experiment_results.read(folder) for folder in options.folders]
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
