"""Prints the table of an experiment as far as its runs are finished.

Mean and standard deviation over seeds, published figures, the differences to the first loss, and
their uncertainty. The table also goes to table.md and table.csv in the folder of the runs.
"""

import contextlib
import csv
import math
import statistics
from pathlib import Path

from sacrebleu import CHRF

from ..common.cli import UserError, run, whole_number
from ..common.files import writing
from ..common.tables import Table
from .config import parser_of, read_experiment
from .results import collect, export, gather, read
from .scores import PLAIN, SCORES, TOKENS
from .significance import POWER, RESAMPLINGS, over_seeds

FEWEST_WORDS = 6


def means(records, columns):
    """Cells of runs, one a column ``(title, form, value(record))``: ``mean ± standard deviation``.

    Sample standard deviation; omitted for one value, and where a whole number's is 0. "" where a
    run has no value.
    """
    cells = []
    for _, form, value in columns:
        try:
            values = [value(record) for record in records]
        except KeyError:
            cells.append("")
            continue
        both = [statistics.fmean(values), statistics.stdev(values)] if len(values) > 1 else values
        cells.append(" ± ".join(map(form.format, both)).removesuffix(" ± 0"))
    return cells


def kind_name(kind):
    """A kind of checkpoint in words: ``last 5``, ``best``."""
    return f"last {kind[len('averaged') :]}" if kind.startswith("averaged") else kind


def scores_of(results, *tests):
    """Those of :data:`~.scores.SCORES` that all runs have, of one of ``tests`` (of all)."""

    def has(run, score):
        of_tests = [run["scores"][test][results.kind] for test in tests or results["tests"]]
        return any(score.key in of_test for of_test in of_tests)

    return [
        score
        for score in SCORES
        if (results["tokenizer"] or score.origin != TOKENS)
        and all(has(run, score) for run in results["runs"])
    ]


def score_columns(results, test=None, kind=None):
    """Columns ``(title, form, value(record))`` of the scores of a test set."""
    return [(one.name, one.form, results.score(one.key, test, kind)) for one in scores_of(results)]


TRAINING_COLUMNS = [
    ("valid nll, bits", "{:.3f}", lambda run: run["valid_nll"]),
    ("valid accuracy, %", "{:.1f}", lambda run: run["valid_accuracy"]),
    ("updates", "{:,.0f}", lambda run: run["updates"]),
    ("minutes", "{:.1f}", lambda run: run["minutes"]),
]


def measured_columns(results):
    """Columns of what scripts/measure.sh measures, on the compared test set."""
    test = results.test

    def calibration(when, key, factor):
        return lambda run: factor * run["calibration"][when][key]

    nll, error = ("nll_nats", 1 / math.log(2)), ("expected_calibration_error", 100)
    columns = [
        (f"BLEU, beam {beam}", "{:.2f}", lambda run, beam=beam: run["beams"][test][beam]["bleu"])
        for beam in sorted(results["runs"][0].get("beams", {}).get(test, {}), key=int)
    ]
    if all("tempered" in run for run in results["runs"]):
        columns.append(("BLEU at temperature", "{:.2f}", lambda run: run["tempered"][test]["bleu"]))
    return [
        *columns,
        ("temperature", "{:.3f}", lambda run: run["calibration"]["temperature"]),
        ("calibration error, %", "{:.2f}", calibration("before", *error)),
        ("after scaling", "{:.2f}", calibration("after", *error)),
        ("nll, bits", "{:.3f}", calibration("before", *nll)),
        ("after scaling", "{:.3f}", calibration("after", *nll)),
    ]


def of_test(results, test=None):
    """``, test set NAME`` of a test set, or of the compared one, where there are several."""
    return f", test set {test or results.test}" if len(results["tests"]) > 1 else ""


def scores_table(results):
    """A row for each loss, test set and kind of checkpoint: means over seeds, figures beside."""
    published, several = results["published"], len(results["tests"]) > 1
    columns = ["loss", *(["test set"] if several else []), "checkpoints", "seeds"]
    columns += [score.name for score in scores_of(results)]
    if published["scores"]:
        names = {score.key: score.name for score in SCORES}
        columns.append(f"{published['source']} {names[published['measure']]}")
    rows = []
    for loss, seeds in results.by_loss().items():
        figure = published["scores"].get(loss)
        for test in results["tests"]:
            for kind in results["checkpoints"]:
                row = [loss, *([test] if several else []), kind_name(kind), str(len(seeds))]
                row += means(seeds.values(), score_columns(results, test, kind))
                if published["scores"]:
                    row.append("{:.2f} ± {:.2f}".format(*figure) if figure else "")
                    figure = None  # of the compared checkpoints on the compared test set alone
                rows.append(row)
    return Table("Scores, mean ± standard deviation over seeds", columns, rows)


def means_table(results, title, columns):
    """A row for each loss: means over seeds of some columns."""
    rows = [
        [loss, str(len(seeds)), *means(seeds.values(), columns)]
        for loss, seeds in results.by_loss().items()
    ]
    return Table(title, ["loss", "seeds", *(column[0] for column in columns)], rows)


def comparison_table(results, loss):
    """A row for each quantity: means of the baseline and of a loss over the seeds of both, and the
    mean difference with its 95 % interval."""
    both, rows = results.paired(loss), []
    quantities = [*score_columns(results), *TRAINING_COLUMNS[:2]]
    runs = [run for of_seed in both.values() for run in of_seed]
    if all("calibration" in run for run in runs):
        quantities += measured_columns(results.of(runs))
    cells = [means(records, quantities) for records in zip(*both.values())]
    for (title, form, value), *of_losses in zip(quantities, *cells):
        if all(of_losses):
            of_seeds, signed = results.differences(loss, value), form.replace("{:", "{:+")
            over = over_seeds(list(of_seeds.values()))
            interval = f" [{signed}, {signed}]".format(over.low, over.high) if over else ""
            mean = signed.format(statistics.fmean(of_seeds.values()))
            rows.append([title, *of_losses, mean + interval])
    seeds = f"{len(both)} seed{'s' * (len(both) > 1)}{of_test(results)}"
    return Table(f"{results['title']}, {seeds}", ["", results.baseline, loss, "difference"], rows)


OVER_SEEDS = {
    "95 % interval": "{0.low:+.2f} to {0.high:+.2f}",
    "p over seeds": "{0.p_value:.3f}",
    "detectable": "{0.detectable:.2f}",
}


def differences_table(results, loss, test):
    """Loss minus baseline for each seed that both have, and over seeds."""
    scores = scores_of(results, test)
    by_score = [results.differences(loss, results.score(score.key, test)) for score in scores]
    rows = []
    for seed in results.paired(loss):
        p = results.p_value(loss, seed, test)
        values = [f"{of_seeds[seed]:+.2f}" for of_seeds in by_score]
        rows.append([f"seed {seed}", *values, "" if p is None else f"{p:.3f}"])
    if len(rows) > 1:
        values = [list(of_seeds.values()) for of_seeds in by_score]
        rows.append(["mean", *(f"{statistics.fmean(one):+.2f}" for one in values), ""])
        tests = [over_seeds(one) for one in values]
        for name, form in OVER_SEEDS.items():
            rows.append([name, *(form.format(one) if one else "" for one in tests), ""])
    where = kind_name(results.kind) + of_test(results, test)
    names = ["", *(score.name for score in scores), "p, bootstrap (BLEU)"]
    return Table(f"{loss}, minus {results.baseline} ({where})", names, rows)


def all_tables(results):
    """Every table of an experiment."""
    over, tables = "mean ± standard deviation", [scores_table(results)]
    tables.append(means_table(results, f"Training, {over} over seeds", TRAINING_COLUMNS))
    measured = results.of([run for run in results["runs"] if "calibration" in run])
    if measured["runs"]:
        title = f"Search and calibration{of_test(results)}, {over}"
        tables.append(means_table(measured, title, measured_columns(measured)))
    for loss in results.compared_losses():
        tables += [differences_table(results, loss, test) for test in results["tests"]]
    return tables


def notes(results):
    """What a reader must know to read the figures, a line each."""
    scores, lowercased = scores_of(results), results["lowercased"]
    plain = [score for score in scores if score.origin == PLAIN]
    first = [record["scores"][results.test] for record in results["runs"]]
    signatures = {
        score.name: sorted({one[kind][f"{score.key}_signature"] for one in first for kind in one})
        for score in plain
    }
    named = [one.name + " (less is better)" * (not one.higher_is_better) for one in plain]
    of_case = "; the corpus is lowercased, and so are both: not to be compared with cased scores."
    lines = [f"{', '.join(named)}: {PLAIN}{of_case * lowercased}"]
    lines += [
        f"{score.name}: {score.origin}{', lowercased' * lowercased}."
        for score in scores
        if score not in plain
    ]
    if "all" in results["tests"]:
        lines.append("all: every test set together, scored as one.")
    compared = results.compared_losses()
    if compared:
        lines.append(
            f"p, bootstrap: for other test sentences, with these models ({RESAMPLINGS:,} paired "
            "resamplings). With one seed nothing is known of other seeds."
        )
        lines.append("p-values are not corrected for multiple comparisons.")
    if any(len(results.paired(loss)) > 1 for loss in compared):
        lines.append(
            "Over seeds: paired t-test, two-sided. detectable: the true difference "
            f"that so many seeds would find in {POWER:.0%} of experiments."
        )
    return lines + [f"{name}: {one}" for name, of_score in signatures.items() for one in of_score]


def differing(results, count):
    """The ``count`` sentences whose translations, of the losses' first runs, differ most by chrF.

    Sentences of few words, where one word makes all the difference, are left out as long as there
    are enough others.
    """
    references, metric, compared, rows = results.references(), CHRF(), [], []
    given = {"reference": references}
    if results.corpus:
        given = {"source": results.corpus.plain(results.test, results["source"]), **given}
    runs = {loss: next(iter(seeds.values()))["run"] for loss, seeds in results.by_loss().items()}
    made = {loss: results.hypotheses(run) for loss, run in runs.items()}
    lengths = [len(text.split()) for text in references]
    fewest = min([FEWEST_WORDS, *sorted(lengths)[-count:]])
    for i, length in enumerate(lengths):
        if length >= fewest:
            lines = {loss: texts[i] for loss, texts in made.items()}
            scores = [metric.sentence_score(one, [references[i]]).score for one in lines.values()]
            compared.append((min(scores) - max(scores), i, lines, scores))
    for _, i, lines, scores in sorted(compared)[:count]:
        rows += [[str(i + 1), name, "", texts[i]] for name, texts in given.items()]
        rows += [
            [str(i + 1), loss, f"{chrf:.0f}", lines[loss]] for loss, chrf in zip(lines, scores)
        ]
    columns = ["sentence", "", "chrF", "text"]
    title = "Translations" + " that differ most" * (len(made) > 1) + of_test(results)
    return Table(title, columns, rows, len(columns))


def write_tables(results, tables, remarks):
    """Write ``table.md`` and ``table.csv`` into the folder of the results."""
    with writing(results.folder / "table.md") as file:
        file.write(f"# {results['title']}\n\n" + "\n".join(one.text("github") for one in tables))
        file.write("\n" + "".join(f"- {line}\n" for line in remarks))
    with writing(results.folder / "table.csv") as file:
        for number, table in enumerate(tables):
            file.write("\n" * (number > 0))
            csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])


def results_of(experiment, folder, of_runs=gather):
    """Results of the runs in a folder, by ``of_runs``, or of those that ``--export`` made."""
    if any(folder.glob("*/run.json")) or not (folder / "results.json").exists():
        return of_runs(experiment, folder)
    results = read(folder)
    if results["experiment"] != experiment.name:
        raise UserError(
            f"{folder} holds results of {results['experiment']}, expected {experiment.name}"
        )
    return results


def print_table(results, translations=0):
    """Print the table of an experiment, and write it into its folder."""
    tables, remarks = all_tables(results), notes(results)
    with contextlib.suppress(PermissionError):  # gather() printed a warning
        write_tables(results, tables, remarks)
    if translations and results.has_texts():
        print(differing(results, translations).text("plain"))
    print(f"{results['title']}\n")
    print("\n".join(table.text("simple") for table in tables))
    print("\n".join(remarks))


def main():
    parser = parser_of("table", __doc__)
    add, number = parser.add_argument, whole_number(0)
    runs = "the folder of its runs, or one that --export made (runs/EXPERIMENT)"
    add("--runs", type=Path, metavar="DIR", help=runs)
    add("--last", type=number, metavar="N", help="epoch checkpoints that were averaged")
    translations = "print N translations before the table"
    add("--translations", type=number, default=0, metavar="N", help=translations)
    add("--export", type=Path, metavar="DIR", help="keep scores and translations in a folder")
    compare = "print each loss beside the first, a row for each quantity, in Markdown"
    add("--compare", action="store_true", help=compare)
    options = parser.parse_args()
    experiment = read_experiment(options.experiment, options.last)
    folder = options.runs or experiment.folder
    if options.compare and (options.export or options.translations):
        parser.error("--compare prints its table alone: leave out --export and --translations")
    if options.compare:
        results = results_of(experiment, folder, collect)  # p-values take time, and are not shown
        if not results.compared_losses():
            raise UserError(f"no two losses have finished the same seed in {folder}: train more")
        tables = [comparison_table(results, loss) for loss in results.compared_losses()]
        print("\n".join(table.text("github") for table in tables), end="")
        return
    results = results_of(experiment, folder)
    if options.export:
        kept = export(results, options.export)
        write_tables(kept, all_tables(kept), notes(kept))
    print_table(results, options.translations)


if __name__ == "__main__":
    run(main)
