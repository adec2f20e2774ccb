"""Records of finished runs, and the table that compares them."""

import argparse
import json
from pathlib import Path

from ..common.cli import UserError, run
from ..common.files import writing
from . import training_log

COLUMNS = (
    ("loss", "loss", "{}"),
    ("BLEU", "bleu", "{:.2f}"),
    ("chrF", "chrf", "{:.2f}"),
    ("valid nll, bits", "valid_nll", "{:.3f}"),
    ("valid accuracy, %", "valid_accuracy", "{:.1f}"),
    ("updates", "updates", "{:,}"),
    ("minutes", "minutes", "{:.1f}"),
)


def record_of(folder, evaluation):
    """All that is known of a finished run, as one flat record.

    ``valid_nll`` (bits per token) and ``valid_accuracy`` (percent) are those of the last epoch.

    Raises:
        UserError: the run is not trained or not evaluated.
    """
    folder = Path(folder)
    record = {"run": folder.name, "evaluation": evaluation}
    for path in (
        folder / "run.json",
        folder / "training.json",
        folder / "evaluation" / evaluation / "scores.json",
    ):
        try:
            record.update(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UserError(
                f"there is no {path}: train and evaluate that run first "
                "(scripts/train.sh, scripts/evaluate.sh)"
            ) from None
    last = training_log.epochs(folder / "train.log")[-1]["valid"]
    record["valid_nll"] = last["nll_loss"]
    record["valid_accuracy"] = last["accuracy"]
    record["loss"] = "CE" if record["criterion"] == "ce" else f"EL, log end {record['log_end']}"
    return record


def table(records):
    """A table for the terminal, a line a run, and the signatures of its scores below."""
    rows = [[title for title, _, _ in COLUMNS]]
    rows += [[form.format(record[key]) for _, key, form in COLUMNS] for record in records]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    for name in ("bleu_signature", "chrf_signature"):
        lines += sorted({f"{name[:4]}: {record[name]}" for record in records})
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.runs.record",
        description="Gather runs into results.json and print them as a table.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--evaluation", required=True, help="folder in RUN/evaluation")
    parser.add_argument("--output", type=Path, required=True, help="results.json")
    arguments = parser.parse_args()
    records = [record_of(folder, arguments.evaluation) for folder in arguments.runs]
    with writing(arguments.output) as file:
        json.dump(records, file, indent=2)
        file.write("\n")
    print(table(records), end="")


if __name__ == "__main__":
    run(main)
