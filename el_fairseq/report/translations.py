"""Translations of several runs, and the sentences on which they differ most."""

from sacrebleu import CHRF

from ..common.cli import UserError
from ..corpora import manifest
from ..experiments.results import hypotheses, references
from ..experiments.table import long_enough

SHOWN = 20


class Translations:
    """Sentences of a test set on which the runs' translations differ most by chrF.

    Sentences of few words, where one word makes all the difference, are left out as long as there
    are :data:`SHOWN` others.

    Attributes:
        sentences: dicts, the largest difference first: ``number`` (from 1), ``source`` (``None``
            where nobody knows the corpus), ``reference``, ``translations`` (loss, text, chrF).
        words: the fewest words in a reference among those that were compared.
        ahead: how often each loss alone has the best chrF of a sentence shown; ``ties``: none has.

    Args:
        reference: list of sentences.
        hypotheses: the loss of each run, and its list of translations.
        source: list of sentences, or ``None``.
    """

    def __init__(self, reference, hypotheses, source):
        metric = CHRF()
        indices, self.words = long_enough(reference, SHOWN)
        sentences = [
            {
                "number": i + 1,
                "source": source and source[i],
                "reference": reference[i],
                "translations": [
                    (loss, lines[i], metric.sentence_score(lines[i], [reference[i]]).score)
                    for loss, lines in hypotheses.items()
                ],
            }
            for i in indices
        ]
        self.sentences = sorted(sentences, key=_difference, reverse=True)[:SHOWN]
        self.ahead = dict.fromkeys(hypotheses, 0)
        for sentence in self.sentences:
            best = max(chrf for _, _, chrf in sentence["translations"])
            leaders = [loss for loss, _, chrf in sentence["translations"] if chrf == best]
            if len(leaders) == 1:
                self.ahead[leaders[0]] += 1
        self.ties = len(self.sentences) - sum(self.ahead.values())


def _difference(sentence):
    scores = [score for _, _, score in sentence["translations"]]
    return max(scores) - min(scores)


def of_run(folder, results, record, test, reference):
    """Translations of a test set by the compared checkpoints of a run.

    Raises:
        UserError: they are not all there, or not as many as references.
    """
    kind = results["checkpoints"][0]
    lines = hypotheses(folder, results, record["run"], test, kind)
    return _checked(lines, reference, f"{record['run']} in {folder}")


def _checked(lines, reference, name):
    if len(lines) != len(reference):
        raise UserError(
            f"{name} has {len(lines)} sentences in a test set of {len(reference)} references: "
            "delete the folder that was cut short, and make it again"
        )
    return lines


def of_first_runs(folder, results):
    """:class:`Translations` of the compared test set by the first run of each loss."""
    test, first = results["tests"][0], {}
    for record in results["runs"]:
        first.setdefault(record["loss"], record)
    reference = references(folder, results, test)
    made = {loss: of_run(folder, results, one, test, reference) for loss, one in first.items()}
    source = None
    if results["data"]:
        source = manifest.read(results["data"]).source_lines(test)
        _checked(source, reference, f"the source in {results['data']}")
    return Translations(reference, made, source)
