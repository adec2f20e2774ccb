"""Records of finished runs, and the table that compares them."""

import argparse
from pathlib import Path

from ..common.cli import UserError, run
from ..common.state import read_json, write_json
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

    ``valid_nll`` (bits per token) and ``valid_accuracy`` (percent) are those of the last
    validation.

    Raises:
        UserError: the run is not trained or not evaluated, or a file of it is damaged.
    """
    folder = Path(folder)
    scores = folder / "evaluation" / evaluation
    record = {"run": folder.name, "evaluation": evaluation}
    train_again = "train that run again (scripts/train.sh); delete its folder first if it is there"
    record.update(read_json(folder / "run.json", train_again))
    record.update(
        read_json(folder / "training.json", "train that run to its end (scripts/train.sh)")
    )
    record.update(
        read_json(
            scores / "scores.json", f"delete {scores} if it is there, and run scripts/evaluate.sh"
        )
    )
    if "valid_nll" not in record:  # runs of versions before this one
        record.update(_last_validation(folder / "train.log", record["updates"]))
    record["loss"] = "CE" if record["criterion"] == "ce" else f"EL, log end {record['log_end']}"
    return record


def _last_validation(log, updates):
    """Numbers of the last validation in a log that reaches the end of the training."""
    epochs = training_log.epochs(log)
    reached = max((one.get("num_updates", 0) for e in epochs for one in e.values()), default=0)
    if reached and reached < updates:
        raise UserError(
            f"{log} is cut off: it ends at update {reached:.0f}, the training at {updates}; "
            "restore it from a copy, or train that run again in another folder"
        )
    validated = [epoch["valid"] for epoch in epochs if "valid" in epoch]
    if not validated:
        raise UserError(
            f"{log} holds no validation: train that run again in another folder, with validation"
        )
    return {"valid_nll": validated[-1]["nll_loss"], "valid_accuracy": validated[-1]["accuracy"]}


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
    write_json(arguments.output, records)
    print(table(records), end="")


if __name__ == "__main__":
    run(main)
