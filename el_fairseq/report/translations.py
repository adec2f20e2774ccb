"""Translations of several runs, and the sentences on which they differ most."""

from sacrebleu import CHRF

from ..common.cli import UserError
from ..corpora import manifest
from ..experiments.comparison import FEWEST_WORDS
from ..experiments.results import hypotheses, references

SHOWN = 20


class Translations:
    """A test set and what some runs made of it, as plain text.

    ``source`` (``None`` where nobody knows the corpus) and ``reference`` are lists of sentences,
    ``hypotheses`` maps the loss of each run to its list.

    Raises:
        UserError: they are not all there, or not as many as references.
    """

    def __init__(self, folder, results, test, records):
        self.reference = references(folder, results, test)
        self.hypotheses = {
            record["loss"]: of_run(folder, results, record, test, self.reference)
            for record in records
        }
        self.source = None
        if results["data"]:
            self.source = manifest.read(results["data"]).source_lines(test)
            _check(self.source, self.reference, f"the source in {results['data']}")

    def most_different(self, count=SHOWN):
        """The sentences whose chrF differs most between runs, the largest difference first.

        Sentences of a few words, where one word makes all the difference, are left out.

        Returns:
            A list of dicts: ``number`` (from 1), ``source``, ``reference``, and
            ``translations``, a list of (loss, text, chrF).
        """
        metric = CHRF()
        sentences = []
        for i, reference in enumerate(self.reference):
            if len(reference.split()) < FEWEST_WORDS:
                continue
            texts = {loss: lines[i] for loss, lines in self.hypotheses.items()}
            sentences.append(
                {
                    "number": i + 1,
                    "source": self.source and self.source[i],
                    "reference": reference,
                    "translations": [
                        (loss, text, metric.sentence_score(text, [reference]).score)
                        for loss, text in texts.items()
                    ],
                }
            )
        return sorted(sentences, key=_difference, reverse=True)[:count]


def of_run(folder, results, record, test, reference):
    """Translations of a test set by the compared checkpoints of a run.

    Raises:
        UserError: they are not all there, or not as many as references.
    """
    kind = results["checkpoints"][0]
    lines = hypotheses(folder, results, record["run"], test, kind)
    _check(lines, reference, f"{record['run']} in {folder}")
    return lines


def _check(lines, reference, name):
    if len(lines) != len(reference):
        raise UserError(
            f"{name} has {len(lines)} sentences in a test set of {len(reference)} references: "
            "delete the folder that was cut short, and make it again"
        )


def _difference(sentence):
    scores = [score for _, _, score in sentence["translations"]]
    return max(scores) - min(scores)


def of_first_runs(folder, results):
    """:class:`Translations` of the main test set by the first run of each loss."""
    first = {}
    for record in results["runs"]:
        first.setdefault(record["loss"], record)
    return Translations(folder, results, results["tests"][0], first.values())
