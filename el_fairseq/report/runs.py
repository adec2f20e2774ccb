"""What a report says of finished runs: tables, differences and their certainty, translations."""

import shlex
import statistics

from sacrebleu import CHRF

from ..common.files import read_json
from ..common.paths import shown
from ..corpora import manifest
from ..experiments.results import has_texts, hypotheses, references, with_curves
from ..experiments.significance import over_seeds
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
    """The variables of the template, from the runs in a folder and their ``results.json``.

    Beside tables and set-up, of the compared test set: ``comparisons`` (one for each loss but the
    baseline) and, where the texts are kept, ``translations`` (:func:`differing`).
    """
    of_bootstrap = p_values(results, folder)
    tables, count = all_tables(results, of_bootstrap)
    data, losses = results["data"], by_loss(results)
    first = {loss: next(iter(by_seed.values())) for loss, by_seed in losses.items()}
    curves = [(one["loss"], with_curves(folder, one).get("curves")) for one in results["runs"]]
    made = {
        "losses": {loss: list(by_seed) for loss, by_seed in losses.items()},
        "own_options": {loss: own_options(results, run) for loss, run in first.items()},
        "baseline": results["losses"][0],
        "tables": tables,
        "notes": notes(results, count),
        "comparisons": comparisons(results, of_bootstrap),
        "checkpoints": ", ".join(map(kind_name, results["checkpoints"])),
        "options": shlex.join(results["options"]),
        "data": shown(data) if data else None,
        "pairs": manifest.read(data).pairs if data else {},
        "commands": commands(folder, results),
        "curves": [(loss, of_run) for loss, of_run in curves if of_run and of_run["updates"]],
    }
    if has_texts(folder, results):
        test, kind = results["tests"][0], results["checkpoints"][0]
        texts = {
            loss: hypotheses(folder, results, run["run"], test, kind) for loss, run in first.items()
        }
        source = manifest.read(data).source_lines(test) if data else None
        made["translations"] = differing(references(folder, results, test), texts, source)
    return made


def own_options(results, record):
    """The options of a run that are its loss's own, in shell syntax.

    They are a block of its options; the others are those that all runs share.
    """
    *words, _, _ = [word for word in record["options"] if word != "--report-accuracy"]  # the seed
    shared = results["options"]
    size = len(words) - len(shared)
    for at in range(len(shared) + 1):
        if [*words[:at], *words[at + size :]] == shared:
            return shlex.join(words[at : at + size])
    return ""


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
        A dict: ``words``, the fewest in a reference that was compared, and ``sentences``, the
        largest difference first, each with its ``number`` (from 1), ``source``, ``reference``,
        ``translations`` and their ``chrf`` by the loss's name.
    """
    metric, (indices, words) = CHRF(), long_enough(reference, SENTENCES)
    sentences = [
        {
            "number": i + 1,
            "source": source and source[i],
            "reference": reference[i],
            "translations": {loss: lines[i] for loss, lines in translations.items()},
            "chrf": {
                loss: metric.sentence_score(lines[i], [reference[i]]).score
                for loss, lines in translations.items()
            },
        }
        for i in indices
    ]

    def difference(sentence):
        return max(sentence["chrf"].values()) - min(sentence["chrf"].values())

    sentences.sort(key=difference, reverse=True)
    return {"words": words, "sentences": sentences[:SENTENCES]}


def in_words(results):
    """The test set that losses are compared on, as a sentence names it."""
    first, *others = results["tests"]
    if first == manifest.ALL:
        return "all test sets together"
    return "the test set" if first == "test" and not others else f"the test set {first}"
