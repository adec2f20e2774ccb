"""The table of an experiment: means over seeds, differences, and how sure they are."""

import argparse
import csv
import io
import itertools
import logging
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from sacrebleu.significance import PairedTest
from scipy.optimize import brentq
from scipy.stats import nct, t, ttest_1samp

from ..common.cli import UserError, run, whole_number
from ..common.files import writing
from ..common.tables import Table
from ..corpora.manifest import read as read_corpus
from ..runs.experiment import ROOT, read_experiment
from ..runs.scoring import METRICS
from . import results as found

RESAMPLINGS = 1000
LEVEL, POWER = 0.05, 0.8
FEWEST_WORDS = 6
MEASURES = {"bleu": "BLEU", "chrf": "chrF", "ter": "TER", "tokenized_bleu": "tokenized BLEU"}


@dataclass(frozen=True)
class OverSeeds:
    """A paired t-test over seeds: two-sided p, 95 % interval of the mean difference, and the
    smallest true difference that so many seeds find with a power of 80 %."""

    mean: float
    low: float
    high: float
    p_value: float
    detectable: float


def over_seeds(differences):
    """:class:`OverSeeds` of differences, one a seed; ``None`` where their spread is unknown."""
    if len(set(differences)) < 2:
        return None
    test = ttest_1samp(differences, 0)
    low, high = test.confidence_interval(1 - LEVEL)
    detectable = detectable_difference(statistics.stdev(differences), len(differences))
    mean = statistics.fmean(differences)
    return OverSeeds(mean, float(low), float(high), float(test.pvalue), detectable)


def detectable_difference(deviation, seeds):
    """The true mean difference that a paired t-test over seeds finds in 80 % of experiments.

    ``deviation`` is the standard deviation of the differences. From the noncentral t
    distribution (Cohen, 1988, chapter 2).
    """
    freedom = seeds - 1
    limit = t.isf(LEVEL / 2, freedom)

    def lacking(shift):  # a difference found with the wrong sign is too rare to count
        return nct.sf(limit, freedom, shift) - POWER

    # scipy has no value far beyond what is sought.
    enough = next(shift for shift in itertools.count(1) if lacking(shift) > 0)
    return float(brentq(lacking, 0, enough) * deviation / math.sqrt(seeds))


def bootstrap(texts, reference, measures=("bleu",)):
    """sacreBLEU's paired bootstrap over sentences, of translations of one test set.

    Koehn, 2004: p is the share of resampled test sets on which the difference is as far from the
    observed one as that is from zero. sacreBLEU's own random seed: the same again each time.

    Args:
        texts: a list of lists of sentences; the first is the baseline.
        reference: list of sentences.
        measures: some of ``bleu``, ``chrf``, ``ter``.

    Returns:
        For each of ``texts`` a dict: of each measure its 95 % interval ``(low, high)``, and the
        p-value of its difference to the baseline (``None`` for that one; 1 for the same text, for
        which sacreBLEU has no answer).
    """
    named = [(str(number), text) for number, text in enumerate(texts)]
    metrics = {name: METRICS[name](references=[reference]) for name in measures}
    _, found = PairedTest(named, metrics, None, "bs", RESAMPLINGS)()
    _, *by_measure = found.values()
    return [
        {
            name: (
                (one.score - one.ci, one.score + one.ci),
                1.0 if number and text == texts[0] else one.p_value,
            )
            for name, one in zip(measures, of_text)
        }
        for number, (text, *of_text) in enumerate(zip(texts, *by_measure))
    ]


def bootstrap_p(baseline, system, references):
    """p-value by BLEU of :func:`bootstrap` of two lists of hypotheses."""
    _, p = bootstrap([baseline, system], references)[1]["bleu"]
    return p


def mean_and_deviation(values, form="{:.2f}"):
    """``mean ± standard deviation`` (of a sample; none for one value)."""
    mean = form.format(statistics.fmean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean


def by_loss(records):
    """Records grouped by their loss, CE first, each group by its seed: {loss: {seed: record}}."""
    groups = {}
    for record in sorted(records, key=lambda one: (one["log_end"] or 0, one["seed"])):
        groups.setdefault(record["loss"], {})[record["seed"]] = record
    return groups


def measures_of(results):
    """Measures that say something of this corpus: fairseq's BLEU needs tokenized text."""
    return [name for name in MEASURES if name != "tokenized_bleu" or results["tokenizer"]]


def scores_table(results):
    """A row for each loss, test set and kind of checkpoint: means over seeds, figures beside."""
    published = results["published"]
    several = len(results["tests"]) > 1
    rows = []
    for loss, seeds in by_loss(results["runs"]).items():
        for test in results["tests"]:
            for kind in results["checkpoints"]:
                scores = [record["scores"][test][kind] for record in seeds.values()]
                row = [loss, *([test] if several else []), kind_name(kind), str(len(scores))]
                row += [
                    mean_and_deviation([one[name] for one in scores])
                    for name in measures_of(results)
                ]
                if published:
                    first = (results["tests"][0], results["checkpoints"][0]) == (test, kind)
                    figure = published["scores"].get(loss) if first else None
                    row.append("{:.2f} ± {:.2f}".format(*figure) if figure else "")
                rows.append(row)
    columns = ["loss", *(["test set"] if several else []), "checkpoints", "seeds"]
    columns += [MEASURES[name] for name in measures_of(results)]
    if published:
        columns.append(f"{published['source']} {MEASURES[published['measure']]}")
    return Table("Scores, mean ± standard deviation over seeds", columns, rows)


def kind_name(kind):
    """A kind of checkpoint in words: ``last 5``, ``best``."""
    return f"last {kind[len('averaged') :]}" if kind.startswith("averaged") else kind


def training_table(results):
    """A row for each loss: validation at the end, length of training."""
    rows = []
    for loss, seeds in by_loss(results["runs"]).items():
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


def pairs(results, loss):
    """``{seed: (record of CE, record of the loss)}`` where both have the seed."""
    groups = by_loss(results["runs"])
    baseline = groups.get("CE", {})
    return {seed: (baseline[seed], r) for seed, r in groups[loss].items() if seed in baseline}


def paired_differences(results, loss, value):
    """``{seed: loss minus CE}`` of ``value(record)``, where both have the seed.

    Every difference that is printed, drawn or tested is one of these. Nine decimals, so that two
    scores as they are stored, to two decimals, differ by no more than they show.
    """
    return {
        seed: round(value(after) - value(before), 9)
        for seed, (before, after) in pairs(results, loss).items()
    }


def differences(results, loss, test, measure):
    """:func:`paired_differences` of a score of the compared checkpoints."""
    kind = results["checkpoints"][0]
    return paired_differences(results, loss, lambda run: run["scores"][test][kind][measure])


def differences_table(results, loss, test, p_values):
    """EL minus CE for each seed that both have, and over seeds; ``None`` without such a seed.

    ``p_values`` are those of the bootstrap by BLEU, {seed: p}.
    """
    values = {name: differences(results, loss, test, name) for name in measures_of(results)}
    seeds = list(values["bleu"])
    if not seeds:
        return None
    rows = [
        [f"seed {seed}", *(f"{one[seed]:+.2f}" for one in values.values()), f"{p_values[seed]:.3f}"]
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
    where = kind_name(results["checkpoints"][0])
    where += f", test set {test}" if len(results["tests"]) > 1 else ""
    columns = ["", *(MEASURES[name] for name in values), "p, bootstrap (BLEU)"]
    return Table(f"{loss}, minus CE ({where})", columns, rows)


def all_tables(results, folder):
    """Every table of an experiment, and the number of p-values that they hold."""
    tables, count = [scores_table(results), training_table(results)], 0
    kind = results["checkpoints"][0]
    for loss in by_loss(results["runs"]):
        if loss == "CE":
            continue
        for test in results["tests"]:
            p_values = {}
            for seed, records in pairs(results, loss).items():
                texts = [
                    found.hypotheses(folder, results, record["run"], test, kind)
                    for record in records
                ]
                p_values[seed] = bootstrap_p(*texts, found.references(folder, results, test))
            table = differences_table(results, loss, test, p_values)
            if table is not None:
                tables.append(table)
                tests = len(measures_of(results)) if len(p_values) > 1 else 0
                count += len(p_values) + tests
    return tables, count


def notes(results, comparisons):
    """What a reader must know to read the figures, a line each."""
    first = [record["scores"][results["tests"][0]] for record in results["runs"]]
    signatures = {
        name: sorted({one[kind][f"{name}_signature"] for one in first for kind in one})
        for name in ("bleu", "chrf", "ter")
    }
    told = ["BLEU, chrF, TER: sacreBLEU, on plain (detokenized) text", case(signatures)]
    lines = ["; ".join(filter(None, told))]
    if results["lowercased"]:
        lines[0] = (
            "BLEU, chrF, TER: sacreBLEU, on plain (detokenized) text; the corpus is lowercased, "
            "and so are both: not to be compared with cased scores."
        )
    if results["tokenizer"]:
        lines.append(
            "tokenized BLEU: as fairseq-generate prints it, on Moses tokens"
            + (", lowercased." if results["lowercased"] else ".")
        )
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
            told[one].append(MEASURES[name])
    words = zip(("cased", "lowercased"), told.values())
    return "; ".join(f"{word}: {' and '.join(names)}" for word, names in words if names)


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
    shown = []
    for loss in by_loss(kept["runs"]):
        if loss == "CE":
            continue
        test = kept["tests"][0]
        more = list(differences(kept, loss, test, "bleu").values())
        ours = by_loss(results["runs"]).get(loss)
        yours = list(differences(results, loss, test, "bleu").values()) if ours else []
        over = over_seeds(more)
        if over is None or len(yours) >= len(more):
            continue
        shown.append(
            f"{len(more)} seeds of the same experiment ({path.relative_to(ROOT)}) gave {loss}, "
            f"minus CE: {over.mean:+.2f} BLEU, 95 % interval {over.low:+.2f} to {over.high:+.2f}, "
            f"p = {over.p_value:.2f}"
            + (f"; yours, {len(yours)}: {statistics.fmean(yours):+.2f}." if yours else ".")
        )
    return "\n".join(shown) or None


def examples(results, folder, count):
    """Lines with translations of the first test set: source, reference, and each loss's."""
    test, kind = results["tests"][0], results["checkpoints"][0]
    texts = {"reference": found.references(folder, results, test)}
    if results["data"]:
        texts = {"source": read_corpus(results["data"]).source_lines(test), **texts}
    for loss, seeds in by_loss(results["runs"]).items():
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


def main():
    parser = argparse.ArgumentParser(prog="bash scripts/table.sh", allow_abbrev=False)
    parser.add_argument("experiment", help="its name or file")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--last", type=whole_number(0))
    parser.add_argument("--translations", type=whole_number(0), default=0)
    parser.add_argument("--export", type=Path)
    options = parser.parse_args()
    experiment = read_experiment(options.experiment)
    if options.last is not None:
        experiment = replace(experiment, last=options.last)
    folder = options.runs or ROOT / "runs" / experiment.name
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}: bash scripts/reproduce.sh {options.experiment}"
        )
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    if any(folder.glob("*/run.json")) or not (folder / "results.json").exists():
        results = found.gather(experiment, folder)
    else:
        results = found.read(folder)
        if results["experiment"] != experiment.name:
            raise UserError(
                f"{folder} holds results of {results['experiment']}, expected {experiment.name}"
            )
    tables, comparisons = all_tables(results, folder)
    remarks = notes(results, comparisons)
    if options.export:
        found.export(folder, results, options.export)
        write_tables(options.export, results["title"], tables, remarks)
    write_tables(folder, results["title"], tables, remarks)
    if options.translations:
        print(f"\nTranslations, evenly spread over the test set {results['tests'][0]}:\n")
        print("\n".join(examples(results, folder, options.translations)))
    print(f"{results['title']}\n")
    print("\n".join(table.text("simple") for table in tables))
    print("\n".join(remarks))
    kept = kept_results(results, folder)
    if kept:
        print(f"\n{kept}")


if __name__ == "__main__":
    run(main)
