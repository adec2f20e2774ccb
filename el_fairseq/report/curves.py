"""Validation curves of several runs in one picture."""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from ..common.cli import run
from ..common.files import writing
from ..runs import training_log

PANELS = (
    ("nll_loss", "negative log-likelihood (bits per token)"),
    ("accuracy", "accuracy (% of tokens ranked first)"),
)


def draw(runs, title):
    """Figure of validation loss and accuracy over updates.

    ``runs`` are pairs of a label and the epochs that :func:`training_log.epochs` returns.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, (key, label) in zip(figure.subplots(1, len(PANELS)), PANELS):
        for name, epochs in runs:
            valid = [epoch["valid"] for epoch in epochs if "valid" in epoch]
            axis.plot(
                [numbers["num_updates"] for numbers in valid],
                [numbers[key] for numbers in valid],
                marker=".",
                label=name,
            )
        axis.set_xlabel("updates")
        axis.set_ylabel(f"validation {label}")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    return figure


def main():
    parser = argparse.ArgumentParser(prog="python -m el_fairseq.report.curves", description=__doc__)
    parser.add_argument("results", type=Path, help="results.json; the runs stand beside it")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="a PNG file")
    arguments = parser.parse_args()
    folder = arguments.results.parent
    runs = [
        (record["loss"], training_log.epochs(folder / record["run"] / "train.log"))
        for record in json.loads(arguments.results.read_text(encoding="utf-8"))
    ]
    with writing(arguments.output, "wb") as file:
        draw(runs, arguments.title).savefig(file, dpi=120, format="png")


if __name__ == "__main__":
    run(main)
