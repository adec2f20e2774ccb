"""The table of an experiment: means over seeds, differences, and how sure they are."""

import argparse
import csv
import io
import logging
import math
import statistics
from pathlib import Path

from ..common.cli import UserError, run, whole_number
from ..common.files import writing
from ..common.paths import ROOT
from ..common.tables import Table
from ..corpora.manifest import read as read_corpus
from . import results as found
from .config import names, read_experiment
from .scores import SCORES, score_of
from .significance import POWER, RESAMPLINGS, bootstrap_p, over_seeds

FEWEST_WORDS = 6
BITS = 1 / math.log(2)


def mean_and_deviation(values, form="{:.2f}"):
    """``mean ± standard deviation`` (of a sample; none for one value)."""
    mean = form.format(statistics.fmean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean


def by_loss(results):
    """Records by loss, in the experiment's order, and by seed: ``{loss: {seed: record}}``."""
    groups = {}
    for record in found.in_order(results["losses"], results["runs"]):
        groups.setdefault(record["loss"], {})[record["seed"]] = record
    return groups


def compared_losses(results):
    """The losses that have runs, but for the first of the experiment, the baseline."""
    return [loss for loss in by_loss(results) if loss != results["losses"][0]]


def scores_of(results):
    """Those of :data:`~.scores.SCORES` that the runs have."""
    test, kind = results["tests"], results["checkpoints"][0]
    return [
        score
        for score in SCORES
        if all(
            any(score.key in run["scores"][one][kind] for one in test) for run in results["runs"]
        )
        and (score.metric or results["tokenizer"])
    ]


def scores_table(results):
    """A row for each loss, test set and kind of checkpoint: means over seeds, figures beside."""
    published = results["published"] if results["published"]["scores"] else None
    several = len(results["tests"]) > 1
    rows = []
    for loss, seeds in by_loss(results).items():
        for test in results["tests"]:
            for kind in results["checkpoints"]:
                records = [record["scores"][test][kind] for record in seeds.values()]
                row = [loss, *([test] if several else []), kind_name(kind), str(len(records))]
                row += [_mean_of(score, records) for score in scores_of(results)]
                if published:
                    first = (results["tests"][0], results["checkpoints"][0]) == (test, kind)
                    figure = published["scores"].get(loss) if first else None
                    row.append("{:.2f} ± {:.2f}".format(*figure) if figure else "")
                rows.append(row)
    columns = ["loss", *(["test set"] if several else []), "checkpoints", "seeds"]
    columns += [score.name for score in scores_of(results)]
    if published:
        columns.append(f"{published['source']} {score_of(published['measure']).name}")
    return Table("Scores, mean ± standard deviation over seeds", columns, rows)


def _mean_of(score, records):
    values = [one[score.key] for one in records if score.key in one]
    return mean_and_deviation(values, score.form) if len(values) == len(records) else ""


def kind_name(kind):
    """A kind of checkpoint in words: ``last 5``, ``best``."""
    return f"last {kind[len('averaged') :]}" if kind.startswith("averaged") else kind


def training_table(results):
    """A row for each loss: validation at the end, length of training."""
    rows = []
    for loss, seeds in by_loss(results).items():
        records = list(seeds.values())
        row = [loss, str(len(records))]
        for name, form in (
            ("valid_nll", "{:.3f}"),
            ("valid_accuracy", "{:.1f}"),
            ("updates", "{:,.0f}"),
            ("minutes", "{:.1f}"),
        ):
            values = [record[name] for record in records if name in record]
            same = name == "updates" and len(set(values)) == 1
            row.append(mean_and_deviation(values[:1] if same else values, form) if values else "")
        rows.append(row)
    columns = ["loss", "seeds", "valid nll, bits", "valid accuracy, %", "updates", "minutes"]
    return Table("Training, mean ± standard deviation over seeds", columns, rows)


def measured_table(results):
    """A row for each loss whose runs scripts/measure.sh measured; ``None`` where none is.

    On the compared test set: BLEU by beam size and at the fitted temperature, calibration error
    and nll before and after temperature scaling.
    """
    test, rows, beams, tempered = results["tests"][0], [], (), False
    for loss, seeds in by_loss(results).items():
        records = [record for record in seeds.values() if "calibration" in record]
        if not records:
            continue
        beams = sorted(records[0].get("beams", {}).get(test, {}), key=int)
        row = [loss, str(len(records))]
        row += [
            mean_and_deviation([one["beams"][test][beam]["bleu"] for one in records])
            for beam in beams
        ]
        tempered = all("tempered" in one for one in records)
        if tempered:
            row.append(mean_and_deviation([one["tempered"][test]["bleu"] for one in records]))
        of_runs = [one["calibration"] for one in records]
        row.append(mean_and_deviation([one["temperature"] for one in of_runs], "{:.3f}"))
        for name, factor, form in (
            ("expected_calibration_error", 100, "{:.2f}"),
            ("nll_nats", BITS, "{:.3f}"),
        ):
            for when in ("before", "after"):
                values = [factor * one[when][name] for one in of_runs]
                row.append(mean_and_deviation(values, form))
        rows.append(row)
    if not rows:
        return None
    columns = ["loss", "seeds", *(f"BLEU, beam {beam}" for beam in beams)]
    columns += ["BLEU at temperature"] if tempered else []
    columns += ["temperature", "calibration error, %", "after scaling"]
    columns += ["nll, bits", "after scaling"]
    where = f", test set {test}" if len(results["tests"]) > 1 else ""
    return Table(f"Search and calibration{where}, mean ± standard deviation", columns, rows)


def pairs(results, loss):
    """``{seed: (record of the baseline, record of the loss)}`` where both have the seed."""
    groups = by_loss(results)
    baseline = groups.get(results["losses"][0], {})
    return {seed: (baseline[seed], r) for seed, r in groups[loss].items() if seed in baseline}


def paired_differences(results, loss, value):
    """``{seed: loss minus baseline}`` of ``value(record)``, where both have the seed.

    Every difference that is printed, drawn or tested is one of these. Nine decimals, so that two
    scores as they are stored, to two decimals, differ by no more than they show.
    """
    return {
        seed: round(value(after) - value(before), 9)
        for seed, (before, after) in pairs(results, loss).items()
    }


def differences(results, loss, test, key):
    """:func:`paired_differences` of a score of the compared checkpoints."""
    kind = results["checkpoints"][0]
    return paired_differences(results, loss, lambda run: run["scores"][test][kind][key])


def differences_table(results, loss, test, p_values):
    """Loss minus baseline for each seed that both have, and over seeds; ``None`` without such.

    ``p_values`` are those of the bootstrap by BLEU, {seed: p}.
    """
    kind = results["checkpoints"][0]
    scores = [
        score
        for score in scores_of(results)
        if all(score.key in run["scores"][test][kind] for run in results["runs"])
    ]
    values = {score.key: differences(results, loss, test, score.key) for score in scores}
    seeds = list(values["bleu"])
    if not seeds:
        return None
    rows = [
        [
            f"seed {seed}",
            *(f"{one[seed]:+.2f}" for one in values.values()),
            f"{p_values[seed]:.3f}" if seed in p_values else "",
        ]
        for seed in seeds
    ]
    if len(seeds) > 1:
        tests = [over_seeds(list(one.values())) for one in values.values()]
        means = [f"{statistics.fmean(one.values()):+.2f}" for one in values.values()]
        rows.append(["mean", *means, ""])
        for name, show in (
            ("95 % interval", lambda test: f"{test.low:+.2f} to {test.high:+.2f}"),
            ("p over seeds", lambda test: f"{test.p_value:.3f}"),
            ("detectable", lambda test: f"{test.detectable:.2f}"),
        ):
            rows.append([name, *("" if test is None else show(test) for test in tests), ""])
    where = kind_name(kind) + (f", test set {test}" if len(results["tests"]) > 1 else "")
    columns = ["", *(score.name for score in scores), "p, bootstrap (BLEU)"]
    return Table(f"{loss}, minus {results['losses'][0]} ({where})", columns, rows)


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
            reference = found.references(folder, results, test)
            computed[loss][test] = {
                seed: bootstrap_p(
                    *(found.hypotheses(folder, results, one["run"], test, kind) for one in both),
                    reference,
                    results["target"],
                )
                for seed, both in pairs(results, loss).items()
            }
    return computed


def all_tables(results, of_bootstrap):
    """Every table of an experiment, and the number of p-values that they hold."""
    tables = [scores_table(results), training_table(results), measured_table(results)]
    tables, count = [table for table in tables if table is not None], 0
    for loss in compared_losses(results):
        for test in results["tests"]:
            of_seeds = of_bootstrap.get(loss, {}).get(test, {})
            table = differences_table(results, loss, test, of_seeds)
            if table is not None:
                tables.append(table)
                seeds = len(pairs(results, loss))
                count += len(of_seeds) + (len(table.columns) - 2 if seeds > 1 else 0)
    return tables, count


def notes(results, comparisons):
    """What a reader must know to read the figures, a line each."""
    first = [record["scores"][results["tests"][0]] for record in results["runs"]]
    shown = [score for score in scores_of(results) if score.metric]
    signatures = {
        score.name: sorted({one[kind][f"{score.key}_signature"] for one in first for kind in one})
        for score in shown
    }
    named = [score.name + " (less is better)" * (not score.higher_is_better) for score in shown]
    plain = f"{', '.join(named)}: {shown[0].origin}"
    of_case = "the corpus is lowercased, and so are both: not to be compared with cased scores."
    told = of_case if results["lowercased"] else case(signatures)
    lines = ["; ".join(filter(None, [plain, told]))]
    for score in scores_of(results):
        if not score.metric:
            lowercased = ", lowercased" if results["lowercased"] else ""
            lines.append(f"{score.name}: {score.origin}{lowercased}.")
    if "all" in results["tests"]:
        lines.append("all: every test set together, scored as one.")
    if comparisons:
        seeds = len({record["seed"] for record in results["runs"]})
        lines.append(
            f"p, bootstrap: for other test sentences, with these models ({RESAMPLINGS:,} paired "
            "resamplings)."
            + (" With one seed nothing is known of other seeds." if seeds == 1 else "")
        )
        if seeds > 1:
            lines.append(
                "Over seeds: paired t-test, two-sided. detectable: the true difference "
                f"that so many seeds would find in {POWER:.0%} of experiments."
            )
        if comparisons > 1:
            lines.append(f"{comparisons} comparisons in all; p-values are not corrected for that.")
    lines += [f"{name}: {one}" for name, of_score in signatures.items() for one in of_score]
    return lines


def case(signatures):
    """What sacreBLEU's signatures, ``{score: [signature]}``, say of upper and lower case."""
    told = {"case:mixed": [], "case:lc": []}
    for name, of_score in signatures.items():
        for one in {part for signature in of_score for part in signature.split("|")} & set(told):
            told[one].append(name)
    words = zip(("cased", "lowercased"), told.values())
    return "; ".join(f"{word}: {' and '.join(of)}" for word, of in words if of)


def kept_results(results, folder):
    """A line on the results of more seeds that this repository keeps; ``None``: there are none.

    They compare only where the settings are the same.
    """
    path = ROOT / "scripts" / "results" / results["experiment"]
    if not path.exists() or path.resolve() == Path(folder).resolve():
        return None
    kept = found.read(path)
    if any(kept[name] != results[name] for name in ("options", "tests", "checkpoints")):
        return None
    shown, baseline, test = [], kept["losses"][0], kept["tests"][0]
    for loss in compared_losses(kept):
        more = list(differences(kept, loss, test, "bleu").values())
        ours = loss in by_loss(results)
        yours = list(differences(results, loss, test, "bleu").values()) if ours else []
        over = over_seeds(more)
        if over is None or len(yours) >= len(more):
            continue
        shown.append(
            f"{len(more)} seeds of the same experiment ({path.relative_to(ROOT)}) gave {loss}, "
            f"minus {baseline}: {over.mean:+.2f} BLEU, 95 % interval {over.low:+.2f} to "
            f"{over.high:+.2f}, p = {over.p_value:.2f}"
            + (f"; yours, {len(yours)}: {statistics.fmean(yours):+.2f}." if yours else ".")
        )
    return "\n".join(shown) or None


def examples(results, folder, count):
    """Lines with translations of the first test set: source, reference, and each loss's."""
    test, kind = results["tests"][0], results["checkpoints"][0]
    texts = {"reference": found.references(folder, results, test)}
    if results["data"]:
        texts = {"source": read_corpus(results["data"]).source_lines(test), **texts}
    for loss, seeds in by_loss(results).items():
        record = next(iter(seeds.values()))
        texts[loss] = found.hypotheses(folder, results, record["run"], test, kind)
    width = max(map(len, texts))
    lines = []
    for number in spread(texts["reference"], count):
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


def spread(sentences, count):
    """Indices of ``count`` sentences of some length, evenly spread over the test set."""
    indices, _ = long_enough(sentences, count)
    step = max(len(indices) / count, 1)
    return [indices[int(i * step)] for i in range(min(count, len(indices)))]


def comma_separated(tables):
    """The tables as CSV, one below the other, an empty line between them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, table in enumerate(tables):
        if number:
            text.write("\n")
        writer.writerows([table.columns, *table.rows])
    return text.getvalue()


def write_tables(folder, title, tables, remarks):
    """Write ``table.md`` and ``table.csv`` into a folder."""
    with writing(Path(folder, "table.md")) as file:
        file.write(f"# {title}\n\n" + "\n".join(table.text("github") for table in tables))
        file.write("\n" + "".join(f"- {line}\n" for line in remarks))
    with writing(Path(folder, "table.csv")) as file:
        file.write(comma_separated(tables))


def print_table(experiment, folder, translations=0, export=None):
    """Print the table of the finished runs in a folder, and write it there and to ``export``."""
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    if any(folder.glob("*/run.json")) or not (folder / "results.json").exists():
        results = found.gather(experiment, folder)
    else:
        results = found.read(folder)
        if results["experiment"] != experiment.name:
            raise UserError(
                f"{folder} holds results of {results['experiment']}, expected {experiment.name}"
            )
    of_bootstrap = p_values(results, folder)
    tables, comparisons = all_tables(results, of_bootstrap)
    remarks = notes(results, comparisons)
    if export:
        kept = found.export(folder, results, of_bootstrap, export)
        kept_tables, kept_comparisons = all_tables(kept, p_values(kept, export))
        write_tables(export, kept["title"], kept_tables, notes(kept, kept_comparisons))
    try:
        write_tables(folder, results["title"], tables, remarks)
    except PermissionError:
        print(f"note: {folder} is not writable; table.md and table.csv there stay as they are")
    if translations and found.has_texts(folder, results):
        print(f"\nTranslations, evenly spread over the test set {results['tests'][0]}:\n")
        print("\n".join(examples(results, folder, translations)))
    print(f"{results['title']}\n")
    print("\n".join(table.text("simple") for table in tables))
    print("\n".join(remarks))
    more = kept_results(results, folder)
    if more:
        print(f"\n{more}")


def main():
    parser = argparse.ArgumentParser(
        prog="bash scripts/table.sh",
        description="Prints the table of an experiment as far as its runs are finished: mean and "
        "standard deviation over seeds, published figures, the differences to the first loss, and "
        "how sure they are. It goes to table.md and table.csv in the folder of the runs, too.",
        allow_abbrev=False,
    )
    parser.add_argument("experiment", help=f"{', '.join(names())}, or a .toml file")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="the folder of its runs, or one that --export made (runs/EXPERIMENT)",
    )
    parser.add_argument(
        "--last",
        type=whole_number(0),
        metavar="N",
        help="how many epoch checkpoints were averaged (the experiment's)",
    )
    parser.add_argument(
        "--translations",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="show N translations of the test set before",
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="copy scores and translations of the runs into a folder, small enough to keep, or add "
        "them to one that is there",
    )
    options = parser.parse_args()
    experiment = read_experiment(options.experiment)
    if options.last is not None:
        evaluation = experiment.evaluate.model_copy(update={"last": options.last})
        experiment = experiment.model_copy(update={"evaluate": evaluation})
    folder = options.runs or ROOT / "runs" / experiment.name
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}: bash scripts/reproduce.sh {options.experiment}"
        )
    print_table(experiment, folder, options.translations, options.export)


if __name__ == "__main__":
    run(main)
