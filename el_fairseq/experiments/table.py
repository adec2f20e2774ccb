"""The table of an experiment: means over seeds, differences, and their uncertainty."""

import contextlib
import csv
import logging
import math
import statistics
from pathlib import Path

from ..common.cli import UserError, run, whole_number
from ..common.files import writing
from ..common.tables import Table
from ..corpora.manifest import read as read_corpus
from . import results as experiment_results
from .config import parser_of, read_experiment
from .scores import PLAIN, SCORES, TOKENS, score_of
from .significance import POWER, RESAMPLINGS, bootstrap_p, over_seeds

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


def by_loss(results):
    """Records by loss, in the experiment's order, and by seed: ``{loss: {seed: record}}``."""
    groups = {}
    for record in experiment_results.in_order(results["losses"], results["runs"]):
        groups.setdefault(record["loss"], {})[record["seed"]] = record
    return groups


def compared_losses(results):
    """The losses that have runs, but for the first of the experiment, the baseline."""
    return [loss for loss in by_loss(results) if loss != results["losses"][0]]


def kind_name(kind):
    """A kind of checkpoint in words: ``last 5``, ``best``."""
    return f"last {kind[len('averaged') :]}" if kind.startswith("averaged") else kind


def scores_of(results):
    """Those of :data:`~.scores.SCORES` that the runs have."""
    kind = results["checkpoints"][0]
    return [
        score
        for score in SCORES
        if all(
            any(score.key in run["scores"][test][kind] for test in results["tests"])
            for run in results["runs"]
        )
        and (score.origin != TOKENS or results["tokenizer"])
    ]


def score_in(results, key, test=None, kind=None):
    """Function of a run to a score of it; that which is compared where no more is said."""
    test, kind = test or results["tests"][0], kind or results["checkpoints"][0]
    return lambda run: run["scores"][test][kind][key]


def score_columns(results, test=None, kind=None):
    """Columns ``(title, form, value(record))`` of the scores of a test set."""
    return [
        (one.name, one.form, score_in(results, one.key, test, kind)) for one in scores_of(results)
    ]


TRAINING_COLUMNS = [
    ("valid nll, bits", "{:.3f}", lambda run: run["valid_nll"]),
    ("valid accuracy, %", "{:.1f}", lambda run: run["valid_accuracy"]),
    ("updates", "{:,.0f}", lambda run: run["updates"]),
    ("minutes", "{:.1f}", lambda run: run["minutes"]),
]


def measured_columns(results):
    """Columns of what scripts/measure.sh measures, on the compared test set.

    BLEU by beam size and at the fitted temperature, calibration error and nll before and after
    temperature scaling.
    """
    test = results["tests"][0]

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
    return f", test set {test or results['tests'][0]}" if len(results["tests"]) > 1 else ""


def scores_table(results):
    """A row for each loss, test set and kind of checkpoint: means over seeds, figures beside."""
    published, several = results["published"], len(results["tests"]) > 1
    columns = ["loss", *(["test set"] if several else []), "checkpoints", "seeds"]
    columns += [score.name for score in scores_of(results)]
    if published["scores"]:
        columns.append(f"{published['source']} {score_of(published['measure']).name}")
    rows = []
    for loss, seeds in by_loss(results).items():
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
        for loss, seeds in by_loss(results).items()
    ]
    return Table(title, ["loss", "seeds", *(column[0] for column in columns)], rows)


def comparison_table(results, loss):
    """A row for each quantity: means of the baseline and of a loss over the seeds of both, and the
    mean difference with its 95 % interval."""
    both, rows = paired(results, loss), []
    quantities = [*score_columns(results), *TRAINING_COLUMNS[:2]]
    runs = [run for of_seed in both.values() for run in of_seed]
    if all("calibration" in run for run in runs):
        quantities += measured_columns({**results, "runs": runs})
    cells = [means(records, quantities) for records in zip(*both.values())]
    for (title, form, value), *of_losses in zip(quantities, *cells):
        if all(of_losses):
            of_seeds, signed = differences(results, loss, value), form.replace("{:", "{:+")
            over = over_seeds(list(of_seeds.values()))
            interval = f" [{signed}, {signed}]".format(over.low, over.high) if over else ""
            mean = signed.format(statistics.fmean(of_seeds.values()))
            rows.append([title, *of_losses, mean + interval])
    seeds = f"{len(both)} seed{'s' * (len(both) > 1)}{of_test(results)}"
    return Table(
        f"{results['title']}, {seeds}", ["", results["losses"][0], loss, "difference"], rows
    )


def paired(results, loss):
    """``{seed: (record of the baseline, record of the loss)}`` where both have the seed."""
    groups = by_loss(results)
    baseline, own = groups.get(results["losses"][0], {}), groups.get(loss, {})
    return {seed: (baseline[seed], record) for seed, record in own.items() if seed in baseline}


def differences(results, loss, value):
    """``{seed: loss minus baseline}`` of ``value(record)``, where both have the seed.

    Every difference that is printed, drawn or tested is one of these. Nine decimals, so that two
    scores as they are stored, to two decimals, differ by no more than they show.
    """
    return {
        seed: round(value(after) - value(before), 9)
        for seed, (before, after) in paired(results, loss).items()
    }


OVER_SEEDS = (
    ("mean", "{mean:+.2f}"),
    ("95 % interval", "{0.low:+.2f} to {0.high:+.2f}"),
    ("p over seeds", "{0.p_value:.3f}"),
    ("detectable", "{0.detectable:.2f}"),
)


def differences_table(results, loss, test, p_values):
    """Loss minus baseline for each seed that both have, and over seeds; ``None`` without such.

    ``p_values`` are those of the bootstrap by BLEU, {seed: p}.
    """
    kind, seeds = results["checkpoints"][0], list(paired(results, loss))
    if not seeds:
        return None
    scores = [
        score
        for score in scores_of(results)
        if all(score.key in run["scores"][test][kind] for run in results["runs"])
    ]
    over = len(seeds) > 1
    columns = [[f"seed {seed}" for seed in seeds] + [name for name, _ in OVER_SEEDS] * over]
    for score in scores:
        values = list(differences(results, loss, score_in(results, score.key, test)).values())
        columns.append([f"{value:+.2f}" for value in values] + _over_seeds(values) * over)
    columns.append([f"{p_values[seed]:.3f}" if seed in p_values else "" for seed in seeds])
    columns[-1] += [""] * len(OVER_SEEDS) * over
    where = kind_name(kind) + of_test(results, test)
    names = ["", *(score.name for score in scores), "p, bootstrap (BLEU)"]
    return Table(f"{loss}, minus {results['losses'][0]} ({where})", names, list(zip(*columns)))


def _over_seeds(values):
    test, mean = over_seeds(values), statistics.fmean(values)
    return [
        form.format(test, mean=mean) if test or "mean" in form else "" for _, form in OVER_SEEDS
    ]


def p_values(results, folder):
    """p-values of the paired bootstrap by BLEU: ``{loss: {test: {seed: p}}}``, kept or computed."""
    if "p_values" in results:
        return {
            loss: {test: {int(seed): p for seed, p in of.items()} for test, of in tests.items()}
            for loss, tests in results["p_values"].items()
        }
    kind, computed = results["checkpoints"][0], {}
    for loss in compared_losses(results):
        computed[loss] = {}
        for test in results["tests"]:
            reference = experiment_results.references(folder, results, test)
            computed[loss][test] = {}
            for seed, both in paired(results, loss).items():
                texts = [
                    experiment_results.hypotheses(folder, results, record["run"], test, kind)
                    for record in both
                ]
                computed[loss][test][seed] = bootstrap_p(*texts, reference, results["target"])
    return computed


def all_tables(results, of_bootstrap):
    """Every table of an experiment, and the number of p-values that they hold."""
    over = "mean ± standard deviation"
    tables = [
        scores_table(results),
        means_table(results, f"Training, {over} over seeds", TRAINING_COLUMNS),
    ]
    measured = {**results, "runs": [run for run in results["runs"] if "calibration" in run]}
    if measured["runs"]:
        title = f"Search and calibration{of_test(results)}, {over}"
        tables.append(means_table(measured, title, measured_columns(measured)))
    count = 0
    for loss in compared_losses(results):
        for test in results["tests"]:
            of_seeds = of_bootstrap.get(loss, {}).get(test, {})
            table = differences_table(results, loss, test, of_seeds)
            if table is not None:
                tables.append(table)
                several = len(paired(results, loss)) > 1
                count += len(of_seeds) + (len(table.columns) - 2 if several else 0)
    return tables, count


def notes(results, comparisons):
    """What a reader must know to read the figures, a line each."""
    scores = scores_of(results)
    shown = [score for score in scores if score.origin == PLAIN]
    first = [record["scores"][results["tests"][0]] for record in results["runs"]]
    signatures = {
        score.name: sorted({one[kind][f"{score.key}_signature"] for one in first for kind in one})
        for score in shown
    }
    named = [score.name + " (less is better)" * (not score.higher_is_better) for score in shown]
    told = [f"{', '.join(named)}: {shown[0].origin}", case(signatures)]
    if results["lowercased"]:
        told[1] = "the corpus is lowercased, and so are both: not to be compared with cased scores."
    lines = ["; ".join(filter(None, told))]
    lines += [
        f"{score.name}: {score.origin}{', lowercased' if results['lowercased'] else ''}."
        for score in scores
        if score.origin != PLAIN
    ]
    if "all" in results["tests"]:
        lines.append("all: every test set together, scored as one.")
    seeds = len({record["seed"] for record in results["runs"]})
    if comparisons:
        lines.append(
            f"p, bootstrap: for other test sentences, with these models ({RESAMPLINGS:,} paired "
            "resamplings)."
            + (" With one seed nothing is known of other seeds." if seeds == 1 else "")
        )
    if comparisons and seeds > 1:
        lines.append(
            "Over seeds: paired t-test, two-sided. detectable: the true difference "
            f"that so many seeds would find in {POWER:.0%} of experiments."
        )
    if comparisons > 1:
        lines.append(f"{comparisons} comparisons in all; p-values are not corrected for that.")
    return lines + [f"{name}: {one}" for name, of_score in signatures.items() for one in of_score]


def case(signatures):
    """What sacreBLEU's signatures, ``{score: [signature]}``, say of upper and lower case."""
    told = []
    for part, says in (("case:mixed", "cased"), ("case:lc", "lowercased")):
        scores = [name for name, some in signatures.items() if part in "|".join(some).split("|")]
        told += [f"{says}: {' and '.join(scores)}"] if scores else []
    return "; ".join(told)


def examples(results, folder, count):
    """Lines with translations, spread over the first test set: source, reference, each loss's."""
    test, kind = results["tests"][0], results["checkpoints"][0]
    texts = {"reference": experiment_results.references(folder, results, test)}
    if results["data"]:
        texts = {"source": read_corpus(results["data"]).source_lines(test), **texts}
    for loss, seeds in by_loss(results).items():
        name = next(iter(seeds.values()))["run"]
        texts[loss] = experiment_results.hypotheses(folder, results, name, test, kind)
    width, lines = max(map(len, texts)), []
    indices, _ = long_enough(texts["reference"], count)
    for number in indices[:: max(len(indices) // count, 1)][:count]:
        lines += [f"{name:>{width}}  {sentences[number]}" for name, sentences in texts.items()]
        lines.append("")
    return lines


def long_enough(sentences, count):
    """Indices of sentences whose translations can differ by more than a word.

    Those of :data:`FEWEST_WORDS` words or more, and as many of the next shorter lengths as it takes
    to have ``count``.

    Returns:
        ``(indices, words)``, ``words`` the least number of words in them.
    """
    lengths = [len(text.split()) for text in sentences]
    longest = sorted(lengths, reverse=True)[:count]
    words = min([FEWEST_WORDS, *longest[-1:]])
    return [i for i, length in enumerate(lengths) if length >= words], words


def write_tables(folder, title, tables, remarks):
    """Write ``table.md`` and ``table.csv`` into a folder."""
    with writing(Path(folder, "table.md")) as file:
        file.write(f"# {title}\n\n" + "\n".join(table.text("github") for table in tables))
        file.write("\n" + "".join(f"- {line}\n" for line in remarks))
    with writing(Path(folder, "table.csv")) as file:
        for number, table in enumerate(tables):
            file.write("\n" * (number > 0))
            csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])


def results_of(experiment, folder):
    """Results of the runs in a folder, or of those that ``--export`` made."""
    if any(folder.glob("*/run.json")) or not (folder / "results.json").exists():
        return experiment_results.gather(experiment, folder)
    results = experiment_results.read(folder)
    if results["experiment"] != experiment.name:
        raise UserError(
            f"{folder} holds results of {results['experiment']}, expected {experiment.name}"
        )
    return results


def print_table(experiment, folder, translations=0, export=None):
    """Print the table of the finished runs in a folder, and write it there and to ``export``."""
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    results = results_of(experiment, folder)
    of_bootstrap = p_values(results, folder)
    tables, comparisons = all_tables(results, of_bootstrap)
    remarks = notes(results, comparisons)
    if export:
        kept = experiment_results.export(folder, results, of_bootstrap, export)
        kept_tables, kept_comparisons = all_tables(kept, p_values(kept, export))
        write_tables(export, kept["title"], kept_tables, notes(kept, kept_comparisons))
    with contextlib.suppress(PermissionError):  # gather() printed a warning
        write_tables(folder, results["title"], tables, remarks)
    if translations and experiment_results.has_texts(folder, results):
        print(f"\nTranslations, evenly spread over the test set {results['tests'][0]}:\n")
        print("\n".join(examples(results, folder, translations)))
    print(f"{results['title']}\n")
    print("\n".join(table.text("simple") for table in tables))
    print("\n".join(remarks))


def main():
    parser = parser_of(
        "table",
        "Prints the table of an experiment as far as its runs are finished: mean and standard "
        "deviation over seeds, published figures, the differences to the first loss, and their "
        "uncertainty. The table also goes to table.md and table.csv in the folder of the runs.",
    )
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
        results = results_of(experiment, folder)
        losses = [loss for loss in compared_losses(results) if paired(results, loss)]
        if not losses:
            raise UserError(f"no two losses have finished the same seed in {folder}: train more")
        tables = [comparison_table(results, loss) for loss in losses]
        print("\n".join(table.text("github") for table in tables), end="")
    else:
        print_table(experiment, folder, options.translations, options.export)


if __name__ == "__main__":
    run(main)
