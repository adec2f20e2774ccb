"""What a report says of finished runs: tables, differences and their certainty, translations."""

import shlex
import statistics

from sacrebleu import CHRF

from ..common.files import read_json
from ..common.paths import shown
from ..common.tables import Table
from ..corpora import manifest
from ..experiments.results import has_texts, hypotheses, references, with_curves
from ..experiments.scores import SCORES
from ..experiments.significance import bootstrap, over_seeds
from ..experiments.table import (
    all_tables,
    by_loss,
    compared_losses,
    differences,
    kind_name,
    long_enough,
    notes,
    p_values,
    score_in,
)

# How many translations are shown.
SENTENCES = 20


def facts(folder, results):
    """What the page asks for, by name, of the runs in a folder and their ``results.json``.

    Beside tables and set-up, of the compared test set: ``comparisons`` (one for each loss but the
    baseline), ``calibration`` (means over seeds), ``intervals`` (a table of each run's scores) and
    ``translations`` (:func:`differing`); the last two only where the texts are kept.
    """
    of_bootstrap = p_values(results, folder)
    tables, count = all_tables(results, of_bootstrap)
    data = results["data"]
    curves = [(one["loss"], with_curves(folder, one).get("curves")) for one in results["runs"]]
    made = {
        "losses": by_loss(results),
        "baseline": results["losses"][0],
        "tables": tables,
        "notes": notes(results, count),
        "comparisons": comparisons(results, of_bootstrap),
        "calibration": calibration(results),
        "checkpoints": ", ".join(map(kind_name, results["checkpoints"])),
        "options": shlex.join(results["options"]),
        "data": shown(data) if data else None,
        "pairs": manifest.read(data).pairs if data else {},
        "commands": commands(folder, results),
        "curves": [(loss, of_run) for loss, of_run in curves if of_run and of_run["updates"]],
    }
    if has_texts(folder, results):
        test = results["tests"][0]
        reference, kind = references(folder, results, test), results["checkpoints"][0]
        texts = [
            hypotheses(folder, results, record["run"], test, kind) for record in results["runs"]
        ]
        made["intervals"] = intervals(results, texts, reference, of_bootstrap)
        first = {}
        for record, lines in zip(results["runs"], texts):
            first.setdefault(record["loss"], lines)
        source = manifest.read(data).source_lines(test) if data else None
        made["translations"] = differing(reference, first, source)
    return made


def comparisons(results, of_bootstrap):
    """Of BLEU of each loss minus the baseline: seeds, mean, the t-test over seeds (or ``None``),
    and p of the first seed's two models."""
    test, made = results["tests"][0], []
    for loss in compared_losses(results):
        of_seeds = differences(results, loss, score_in(results, "bleu"))
        if of_seeds:
            first = next(iter(of_seeds))
            made.append(
                {
                    "loss": loss,
                    "seeds": len(of_seeds),
                    "mean": statistics.fmean(of_seeds.values()),
                    "over_seeds": over_seeds(list(of_seeds.values())),
                    "p": of_bootstrap.get(loss, {}).get(test, {}).get(first),
                }
            )
    return made


def calibration(results):
    """Mean calibration error ``before`` and ``after``, by loss; empty where a run has none."""
    if not all("calibration" in record for record in results["runs"]):
        return {}
    error = "expected_calibration_error"
    return {
        loss: {
            when: statistics.fmean(one["calibration"][when][error] for one in by_seed.values())
            for when in ("before", "after")
        }
        for loss, by_seed in by_loss(results).items()
    }


def intervals(results, texts, reference, of_bootstrap):
    """A row for each run: its scores, with intervals over sentences, and p to the baseline."""
    test, kind = results["tests"][0], results["checkpoints"][0]
    scores = [score for score in SCORES if score.metric]
    keys = [score.key for score in scores]
    rows = []
    for record, resampled in zip(
        results["runs"], bootstrap(texts, reference, results["target"], keys)
    ):
        p = of_bootstrap.get(record["loss"], {}).get(test, {}).get(record["seed"])
        rows.append([record["run"]])
        for key in keys:
            low, high = resampled[key][0]
            rows[-1].append(f"{record['scores'][test][kind][key]:.2f} [{low:.2f}, {high:.2f}]")
        rows[-1].append("" if p is None else f"{p:.3f}")
    columns = ["run", *(score.name for score in scores), "p, bootstrap (BLEU)"]
    return Table(None, columns, rows)


def commands(folder, results):
    """The commands that trained and scored the runs, where the records hold them."""
    given = [record.get("command") for record in results["runs"]]
    for record in results["runs"]:
        for path in sorted(folder.glob(f"{record['run']}/evaluation/*/evaluation.json")):
            given.append(read_json(path, "evaluate that run again")["command"])
    return [shlex.join(one) for one in given if one]


def differing(reference, translations, source=None):
    """Sentences of a test set on which translations of several losses differ most by chrF.

    Sentences of few words, where one word makes all the difference, are left out as long as there
    are :data:`SENTENCES` others.

    Args:
        reference: list of sentences.
        translations: a list of sentences by the loss's name.
        source: list of sentences, or ``None``.

    Returns:
        A dict: ``sentences``, the largest difference first, each with its ``number`` (from 1),
        ``source``, ``reference`` and ``translations`` (loss, text, chrF); ``words``, the fewest in
        a reference that was compared; ``ahead``, how often each loss alone has the best chrF of a
        sentence shown; and ``ties``, how often none has.
    """
    metric, (indices, words) = CHRF(), long_enough(reference, SENTENCES)
    sentences = []
    for i in indices:
        scored = [
            (loss, lines[i], metric.sentence_score(lines[i], [reference[i]]).score)
            for loss, lines in translations.items()
        ]
        values = sorted(chrf for _, _, chrf in scored)
        best = [loss for loss, _, chrf in scored if chrf == values[-1]]
        sentences.append(
            {
                "number": i + 1,
                "source": source and source[i],
                "reference": reference[i],
                "translations": scored,
                "difference": values[-1] - values[0],
                "best": best,
            }
        )
    sentences.sort(key=lambda one: one["difference"], reverse=True)
    alone = [one["best"][0] for one in sentences[:SENTENCES] if len(one["best"]) == 1]
    return {
        "sentences": sentences[:SENTENCES],
        "words": words,
        "ahead": {loss: alone.count(loss) for loss in translations},
        "ties": len(sentences[:SENTENCES]) - len(alone),
    }


def in_words(results):
    """The test set that losses are compared on, as a sentence names it."""
    first, *others = results["tests"]
    if first == manifest.ALL:
        return "all test sets together"
    return "the test set" if first == "test" and not others else f"the test set {first}"
