"""What the experiments that this repository keeps say: tables for people, and one picture.

The records are those of ``results.json`` that ``scripts/measure.sh`` completed.
"""

import argparse
import logging
import math
import statistics
from pathlib import Path

from ..common.cli import run
from ..common.files import writing
from ..common.tables import Table
from ..experiments import results as found
from ..experiments.comparison import by_loss, kind_name, mean_and_deviation, over_seeds
from .style import LIGHT, panel, png

HEIGHT_OF_A_ROW = 0.75


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
        ("... after one temperature", "{:.3f}", calibration("after", *nll)),
        ("calibration error, %", "{:.2f}", calibration("before", *error)),
        ("... after one temperature", "{:.2f}", calibration("after", *error)),
        ("that temperature", "{:.3f}", lambda record: record["calibration"]["temperature"]),
    )


def pairs(results, loss):
    """``{seed: (record of CE, record of the loss)}`` where both have the seed."""
    groups = by_loss(results["runs"])
    baseline = groups.get("CE", {})
    return {seed: (baseline[seed], r) for seed, r in groups[loss].items() if seed in baseline}


def differences(results, loss, value):
    """Loss minus CE of a value of the records, one a seed."""
    return [value(after) - value(before) for before, after in pairs(results, loss).values()]


def table(results, loss):
    """CE, the loss, and what separates them, a row a measure, over the seeds that both have."""
    records = list(pairs(results, loss).values())
    rows = []
    for title, form, value in measures(results):
        values = [[value(record) for record in of_loss] for of_loss in zip(*records)]
        shown = [mean_and_deviation(one, form) for one in values]
        rows.append([title, *shown, *difference_cells(differences(results, loss, value), form)])
    title = f"{results['title']}, {len(records)} seeds"
    return Table(title, ["", "CE", loss, "difference", "95 % interval", "p"], rows)


def difference_cells(of_seeds, form):
    """Mean, interval and p-value of differences, one a seed; the mean alone where all are equal."""
    signed = form.replace("{:", "{:+")
    test = over_seeds(of_seeds)
    if test is None:
        return [signed.format(statistics.fmean(of_seeds)), "", ""]
    ends = f"{signed.format(test.low)} to {signed.format(test.high)}"
    return [signed.format(test.mean), ends, f"{test.p_value:.3f}"]


def compared(all_results):
    """(results, loss) of every comparison with CE that has a seed."""
    return [
        (results, loss)
        for results in all_results
        for loss in by_loss(results["runs"])
        if loss != "CE" and pairs(results, loss)
    ]


def picture(all_results):
    """PNG of BLEU, each loss minus CE: a dot a seed, the mean with its 95 % interval."""
    lines = compared(all_results)
    with panel(LIGHT, height=1 + HEIGHT_OF_A_ROW * len(lines)) as (figure, axes, look):
        dot, mean = look["colours"][:2]
        for y, (results, loss) in enumerate(lines):
            of_seeds = differences(results, loss, measures(results)[0][2])
            axes.plot(of_seeds, [y - 0.2] * len(of_seeds), "o", color=dot, alpha=0.6, markersize=5)
            test = over_seeds(of_seeds)
            if test is not None:
                axes.plot([test.low, test.high], [y, y], color=mean, linewidth=2)
                axes.plot([test.mean], [y], "D", color=mean, markersize=6)
        axes.axvline(0, color=look["ink"], linewidth=0.9)
        axes.set_yticks(
            range(len(lines)),
            [f"{results['source']}-{results['target']}\n{loss}" for results, loss in lines],
        )
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlabel("BLEU minus CE: seeds; mean, 95 % interval")
        return png(figure)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.report.study", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders with results.json")
    parser.add_argument("--picture", type=Path, help="where the differences go, as a PNG")
    options = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    all_results = [found.read(folder) for folder in options.folders]
    if options.picture:
        with writing(options.picture, "wb") as file:
            file.write(picture(all_results))
    print("\n".join(table(*one).text("github") for one in compared(all_results)), end="")


if __name__ == "__main__":
    run(main)
