"""What a report says of finished runs: tables, differences and their certainty, translations."""

import shlex
import statistics

from sacrebleu import CHRF

from ..common.files import read_json
from ..common.paths import shown
from ..corpora import manifest
from ..experiments.significance import over_seeds
from ..experiments.table import all_tables, kind_name, long_enough, notes

# How many translations are shown.
SENTENCES = 20


def facts(results):
    """The template's ``runs``, from :class:`~..experiments.results.Results`."""
    corpus = manifest.read(results["data"]) if results["data"] else None
    curves = [(one["loss"], results.curves(one)) for one in results["runs"]]
    made = {
        "tables": all_tables(results),
        "notes": notes(results),
        "comparisons": comparisons(results),
        "checkpoints": ", ".join(map(kind_name, results["checkpoints"])),
        "commands": commands(results),
        "curves": [(loss, of_run) for loss, of_run in curves if of_run and of_run["updates"]],
    }
    if corpus:
        made["data"] = shown(corpus.folder)
        made["pairs"] = ", ".join(f"{name} {count:,}" for name, count in corpus.pairs.items())
    if results.has_texts():
        first = {loss: next(iter(runs.values())) for loss, runs in results.by_loss().items()}
        texts = {loss: results.hypotheses(run["run"]) for loss, run in first.items()}
        source = corpus.plain(results.test, corpus.source) if corpus else None
        made["translations"] = differing(results.references(), texts, source)
    return made


def comparisons(results):
    """Of BLEU of each loss minus the baseline: seeds, mean, the t-test over seeds (or ``None``),
    and p of the first seed's two models."""
    made = []
    for loss in results.compared_losses():
        of_seeds = results.differences(loss, results.score("bleu"))
        seeds, values = list(of_seeds), list(of_seeds.values())
        one = {"loss": loss, "seeds": len(seeds), "p": results.p_value(loss, seeds[0])}
        made.append({**one, "mean": statistics.fmean(values), "over_seeds": over_seeds(values)})
    return made


def commands(results):
    """The commands that trained and scored the runs, where the records hold them."""
    given = [record.get("command") for record in results["runs"]]
    for record in results["runs"]:
        for path in sorted(results.folder.glob(f"{record['run']}/evaluation/*/evaluation.json")):
            given.append(read_json(path, "evaluate that run again")["command"])
    return [shlex.join(one) for one in given if one]


def differing(reference, translations, source=None):
    """The :data:`SENTENCES` of a test set whose ``translations``, lists by the losses' names,
    differ most by chrF, most first.

    Sentences of few words, where one word makes all the difference, are left out as long as there
    are enough others.

    Returns:
        A dict: ``words``, the fewest in a reference that was compared, and ``sentences``, each
        with its ``number`` (from 1), ``source``, ``reference``, ``translations`` and their
        ``chrf`` by the loss's name.
    """
    metric, (indices, words), sentences = CHRF(), long_enough(reference, SENTENCES), []
    for i in indices:
        texts = {loss: lines[i] for loss, lines in translations.items()}
        chrf = {
            loss: metric.sentence_score(text, [reference[i]]).score for loss, text in texts.items()
        }
        one = {"number": i + 1, "source": source and source[i], "reference": reference[i]}
        sentences.append({**one, "translations": texts, "chrf": chrf})
    sentences.sort(key=lambda one: min(one["chrf"].values()) - max(one["chrf"].values()))
    return {"words": words, "sentences": sentences[:SENTENCES]}


def in_words(results):
    """The test set that losses are compared on, as a sentence names it."""
    first, *others = results["tests"]
    if first == manifest.ALL:
        return "all test sets together"
    return "the test set" if first == "test" and not others else f"the test set {first}"
