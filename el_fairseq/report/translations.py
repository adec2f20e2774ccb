"""Translations of several runs: whom to compare, and the sentences they differ on most."""

import json
from pathlib import Path

from sacrebleu import CHRF

from ..common.cli import UserError
from ..common.text import lines_of
from ..experiments.comparison import FEWEST_WORDS
from ..runs.scoring import detokenized

SHOWN = 20


class Translations:
    """What the runs of a results.json made of one test set, and the test set itself.

    ``source`` and ``reference`` are lists of sentences, ``hypotheses`` maps the name of a run's
    folder to its list.
    """

    def __init__(self, folder, records):
        data = Path(records[0]["data"])
        try:
            manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
            subset = records[0]["subset"]
            self.source, self.reference = (
                detokenized(
                    lines_of(data / "text" / f"{subset}.{manifest[side]}"),
                    manifest,
                    manifest[side],
                )
                for side in ("source", "target")
            )
            self.hypotheses = {
                record["run"]: lines_of(
                    Path(folder)
                    / record["run"]
                    / "evaluation"
                    / record["evaluation"]
                    / f"hypotheses.{manifest['target']}"
                )
                for record in records
            }
        except FileNotFoundError as error:
            raise UserError(
                f"there is no {error.filename}: the report shows translations of runs that are "
                "evaluated (scripts/evaluate.sh), beside their corpus"
            ) from None


def baseline_of(record, records):
    """The cross-entropy run that a run is compared with: of its experiment and seed, or None."""
    if record["criterion"] == "ce":
        return None
    for other in records:
        if other["criterion"] == "ce" and all(
            other[key] == record[key] for key in ("experiment", "seed", "data", "subset")
        ):
            return other
    return None


def most_different(translations, names, count=SHOWN):
    """The sentences whose chrF differs most between runs, the largest difference first.

    Sentences of a few words, where one word makes all the difference, are left out.

    Args:
        translations: :class:`Translations` of the runs.
        names: a dict of each run's folder to what it is called.

    Returns:
        A list of dicts: ``number`` (from 1), ``source``, ``reference``, and ``translations``, a
        list of (name, text, chrF).
    """
    metric = CHRF()
    sentences = []
    for i, reference in enumerate(translations.reference):
        if len(reference.split()) < FEWEST_WORDS:
            continue
        texts = [translations.hypotheses[run][i] for run in names]
        scores = [metric.sentence_score(text, [reference]).score for text in texts]
        sentences.append(
            {
                "number": i + 1,
                "source": translations.source[i],
                "reference": reference,
                "translations": list(zip(names.values(), texts, scores)),
            }
        )
    return sorted(sentences, key=_difference, reverse=True)[:count]


def _difference(sentence):
    scores = [score for _, _, score in sentence["translations"]]
    return max(scores) - min(scores)
