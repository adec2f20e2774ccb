"""The paper's table from finished runs: means over seeds, differences, and how sure they are."""

import argparse
import csv
import io
import json
import logging
import statistics
from pathlib import Path

import sacrebleu
from sacrebleu.significance import PairedTest
from scipy.stats import ttest_1samp

from ..common.cli import UserError, run
from ..common.files import writing
from ..common.tables import Table

# Tokenized BLEU, mean and standard deviation over five seeds (arXiv 2110.06537).
PAPER = {
    "iwslt14-de-en": {"CE": (35.09, 0.07), "EL, log end 0.5": (35.50, 0.11)},
    "iwslt17-fr-en": {"CE": (37.10, 0.06), "EL, log end 0.5": (37.73, 0.17)},
}
RESAMPLINGS = 1000
MEASURES = ("tokenized_bleu", "bleu", "chrf", "ter")


def mean_and_deviation(values):
    """``mean ± standard deviation`` (of a sample; none for one value) with two decimals."""
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def by_loss(records):
    """Records grouped by their loss, CE first, each group by its seed: {loss: {seed: record}}."""
    groups = {}
    for record in sorted(records, key=lambda one: (one["log_end"] or 0, one["seed"])):
        groups.setdefault(record["loss"], {})[record["seed"]] = record
    return groups


def scores_table(records, paper):
    """A row for each loss and kind of checkpoint: means over seeds, the paper's figure beside."""
    rows = []
    for loss, seeds in by_loss(records).items():
        averaged = list(seeds.values())
        best = [record["best"] for record in averaged]
        kinds = (
            (f"last {averaged[0]['averaged']}", averaged, paper.get(loss)),
            ("best", best, None),
        )
        for kind, scores, published in kinds:
            bleu, *others = (mean_and_deviation([one[name] for one in scores]) for name in MEASURES)
            theirs = "{:.2f} ± {:.2f}".format(*published) if published else ""
            rows.append([loss, kind, str(len(scores)), bleu, theirs, *others])
    columns = ["loss", "checkpoints", "seeds", "tokenized BLEU", "the paper's"]
    columns += ["sacreBLEU", "chrF", "TER"]
    return Table("Test set, mean ± standard deviation over seeds", columns, rows)


def bootstrap_p(baseline, system, references):
    """p-value of sacreBLEU's paired bootstrap test of two lists of hypotheses, by BLEU.

    Koehn, 2004: the share of resampled test sets on which the difference is as far from the
    observed one as that is from zero. sacreBLEU's own random seed: the same again each time.
    """
    if baseline == system:  # sacreBLEU finds no resample that differs more than by nothing
        return 1.0
    systems = [("baseline", baseline), ("system", system)]
    test = PairedTest(
        systems, {"BLEU": sacrebleu.BLEU(references=[references])}, None, "bs", RESAMPLINGS
    )
    _, results = test()
    return results["BLEU"][1].p_value


def seeds_p(differences):
    """Two-sided p-value of a paired t-test over seeds; ``None`` below two seeds."""
    if len(differences) < 2 or len(set(differences)) == 1:
        return None
    return float(ttest_1samp(differences, 0).pvalue)


def differences_tables(records, read):
    """A table for each log end: EL minus CE for each seed that both have, and over seeds.

    ``read`` gives hypotheses and references of a record.
    """
    groups = by_loss(records)
    baseline = groups.get("CE", {})
    tables = []
    for loss, seeds in groups.items():
        shared = [seed for seed in seeds if seed in baseline]
        if loss == "CE" or not shared:
            continue
        rows = []
        deltas = {"tokenized_bleu": [], "bleu": []}
        for seed in shared:
            pair = baseline[seed], seeds[seed]
            for name, values in deltas.items():
                values.append(round(pair[1][name] - pair[0][name], 2))
            (before, references), (after, _) = map(read, pair)
            p = bootstrap_p(before, after, references)
            rows.append([f"seed {seed}", *(f"{d[-1]:+.2f}" for d in deltas.values()), f"{p:.3f}"])
        means = [f"{statistics.fmean(values):+.2f}" for values in deltas.values()]
        rows.append(["mean", *means, ""])
        tests = [seeds_p(values) for values in deltas.values()]
        rows.append(["p over seeds", *("" if p is None else f"{p:.3f}" for p in tests), ""])
        columns = ["", "tokenized BLEU", "sacreBLEU", "p, paired bootstrap"]
        title = f"{loss}, minus CE (averaged checkpoints)"
        tables.append(Table(title, columns, rows))
    return tables


def notes(records, lowercased):
    """What a reader must know to read the figures, a line each."""
    lines = [
        "tokenized BLEU: as fairseq-generate prints it, on Moses tokens"
        + (", lowercased" if lowercased else "")
        + ": the paper's measure.",
        "sacreBLEU, chrF, TER: hypotheses and references detokenized by sacremoses"
        + (
            "; the corpus is lowercased, and so are both: not to be compared with cased scores."
            if lowercased
            else ", cased."
        ),
        "p, paired bootstrap: one test set, sacreBLEU (1,000 resamplings). p over seeds: paired "
        "t-test, two-sided.",
    ]
    for name in ("bleu", "chrf", "ter"):
        lines += sorted({f"{name}: {record[f'{name}_signature']}" for record in records})
    return lines


def read_evaluation(folder, record):
    """Hypotheses and references, detokenized, of a record's averaged checkpoints."""
    evaluation = folder / record["run"] / "evaluation" / f"test-averaged{record['averaged']}"
    found = []
    for stem in ("hypotheses", "references"):
        paths = list(evaluation.glob(f"{stem}.*"))
        if len(paths) != 1:
            raise UserError(
                f"there is no {evaluation / stem}.LANGUAGE; delete that folder and evaluate again"
            )
        found.append(paths[0].read_text(encoding="utf-8").split("\n")[:-1])
    return found


def comma_separated(tables):
    """The tables as CSV, one below the other, an empty line between them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, table in enumerate(tables):
        if number:
            text.write("\n")
        writer.writerows([table.columns, *table.rows])
    return text.getvalue()


def main():
    parser = argparse.ArgumentParser(prog="bash scripts/table.sh", allow_abbrev=False)
    parser.add_argument("experiment", choices=sorted(PAPER))
    parser.add_argument("--runs", type=Path, help="folder with results.json")
    options = parser.parse_args()
    folder = options.runs or Path(__file__).parents[2] / "runs" / options.experiment
    path = folder / "results.json"
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if not records:
        raise UserError(
            f"no run of {options.experiment} is finished ({path}): "
            f"bash scripts/reproduce.sh {options.experiment}"
        )
    manifest = json.loads(Path(records[0]["data"], "manifest.json").read_text(encoding="utf-8"))
    tables = [scores_table(records, PAPER[options.experiment])]
    tables += differences_tables(records, lambda record: read_evaluation(folder, record))
    remarks = notes(records, manifest["lowercased"])
    with writing(folder / "table.md") as file:
        file.write("\n".join(table.text("github") for table in tables))
        file.write("\n" + "".join(f"- {line}\n" for line in remarks))
    with writing(folder / "table.csv") as file:
        file.write(comma_separated(tables))
    print("\n".join(table.text("simple") for table in tables))
    print("\n".join(remarks))


if __name__ == "__main__":
    run(main)
