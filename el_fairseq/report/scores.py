"""Numbers of finished runs: scores, differences with what they can tell, translations."""

import itertools
import re
import shlex
import statistics

from ..common.paths import shown
from ..corpora import manifest
from ..experiments.comparison import (
    bootstrap,
    by_loss,
    kept_results,
    mean_and_deviation,
    over_seeds,
)
from ..experiments.results import references
from ..runs import training_log
from . import commands, figures, translations

SCORES = ("bleu", "chrf", "ter")
FINE = "{:.3f}"


class Runs:
    """What the report says of the runs in a folder; ``results`` is their ``results.json``.

    Attributes are what the words of the page ask for: ``comparisons`` (a dict for each test set
    and encouraging loss), ``means`` and ``rows`` (of tables, by test set), ``signatures``,
    ``beams`` (by test set), ``named`` (each run's record by what it is called),
    ``translations`` with ``ahead``, and the set-up.
    """

    def __init__(self, folder, results):
        self.folder, self.results = folder, results
        self.kind = results["checkpoints"][0]
        self.records = results["runs"]
        self.named = _named(self.records)
        # Exported results may know the time of processors alone.
        self.minutes = "minutes" if "minutes" in self.records[0] else "cpu_minutes"
        self.seeds = {loss: list(by_seed) for loss, by_seed in by_loss(self.records).items()}
        self.logs = {name: self._epochs(record) for name, record in self.named.items()}
        self.logs = {name: epochs for name, epochs in self.logs.items() if epochs}
        self.comparisons, self.rows, self.means, self.signatures = [], {}, {}, {}
        for test in results["tests"]:
            self._compare(test)
        self.beams = {test: self._by_beam(test) for test in results["tests"]}
        self.sentences = self._scores(self.records[0], results["tests"][0])["sentences"]
        self.calibration = self._calibration()
        self.kept = kept_results(results, folder)
        self._set_up()
        self._translate()

    def _epochs(self, record):
        """Epochs of a run's log, or of its record in an exported folder, where either is there."""
        log = self.folder / record["run"] / "train.log"
        if log.is_file():
            return training_log.epochs(log)
        curves = record.get("curves", {"updates": []})
        return [
            {
                part: {
                    "num_updates": updates,
                    "nll_loss": curves[f"{part}_nll"][i],
                    "accuracy": curves[f"{part}_accuracy"][i],
                }
                for part in ("train", "valid")
            }
            for i, updates in enumerate(curves["updates"])
        ]

    def _calibration(self):
        """Rows on calibration over seeds, where every run's record has it."""
        if not all("calibration" in record for record in self.records):
            return []
        rows = []
        for loss, by_seed in by_loss(self.records).items():
            found = [record["calibration"] for record in by_seed.values()]
            row = {"loss": loss, "seeds": len(found)}
            row["temperature"] = mean_and_deviation([one["temperature"] for one in found], FINE)
            for when in ("before", "after"):
                errors = [100 * one[when]["expected_calibration_error"] for one in found]
                row[when] = mean_and_deviation(errors)
                nll = [one[when]["nll_nats"] for one in found]
                row[f"nll_{when}"] = mean_and_deviation(nll, FINE)
            rows.append(row)
        return rows

    def _scores(self, record, test):
        return record["scores"][test][self.kind]

    def _compare(self, test):
        """Scores of a test set with intervals; differences to the baseline of the same seed."""
        reference = references(self.folder, self.results, test)
        rows, differences = [], {}
        for _, group in itertools.groupby(
            sorted(self.records, key=lambda record: record["seed"]), lambda record: record["seed"]
        ):
            records = sorted(group, key=lambda record: record["log_end"] or 0)
            texts = [
                translations.of_run(self.folder, self.results, record, test, reference)
                for record in records
            ]
            for record, found in zip(records, bootstrap(texts, reference, SCORES)):
                scores = self._scores(record, test)
                row = {**record, "difference": None, "p": None}
                for name, ((low, high), _) in found.items():
                    row[name] = {"value": scores[name], "low": low, "high": high}
                if record["criterion"] != "ce" and records[0]["criterion"] == "ce":
                    baseline = self._scores(records[0], test)
                    row["difference"] = scores["bleu"] - baseline["bleu"]
                    row["p"] = found["bleu"][1]
                    differences.setdefault(record["loss"], []).append(row)
                rows.append(row)
        self.rows[test] = rows
        self.comparisons += [
            comparison(test, loss, [row["difference"] for row in found], found[0]["p"])
            for loss, found in differences.items()
        ]
        self.means[test] = [
            {
                "loss": loss,
                "seeds": len(by_seed),
                **{
                    name: mean_and_deviation(
                        [self._scores(record, test)[name] for record in by_seed.values()]
                    )
                    for name in SCORES
                },
                "minutes": mean_and_deviation(
                    [record[self.minutes] for record in by_seed.values()]
                ),
            }
            for loss, by_seed in by_loss(self.records).items()
        ]
        found = [self._scores(record, test) for record in self.records]
        self.signatures[test] = "; ".join(
            f"{label}: {' or '.join(sorted({scores[f'{name}_signature'] for scores in found}))}"
            for label, name in (("BLEU", "bleu"), ("chrF", "chrf"), ("TER", "ter"))
        )

    def _by_beam(self, test):
        """BLEU of the runs of each loss by beam size, where all runs were translated with some."""
        beams = {}
        for loss, by_seed in by_loss(self.records).items():
            for record in by_seed.values():
                for size, scores in record.get("beams", {}).get(test, {}).items():
                    beams.setdefault(loss, {}).setdefault(int(size), []).append(scores["bleu"])
        return beams

    def _set_up(self):
        self.options = shlex.join(self.results["options"])
        data = self.results["data"]
        self.data = shown(data) if data else None
        self.pairs = manifest.read(data).pairs if data else None
        self.parameters = None
        log = self.folder / self.records[0]["run"] / "train.log"
        if log.is_file():
            found = re.search(
                r"num\. shared model params: ([\d,]+)", log.read_text("utf-8", "replace")
            )
            self.parameters = int(found[1].replace(",", "")) if found else None
        self.five_seeds = commands.more_seeds(self.folder, self.results)

    def _translate(self):
        texts = translations.of_first_runs(self.folder, self.results)
        self.translations = texts.most_different()
        self.fewest_words = translations.FEWEST_WORDS
        best = [max(found["translations"], key=lambda row: row[2]) for found in self.translations]
        self.ahead = {name: sum(row[0] == name for row in best) for name in texts.hypotheses}

    def drawings(self):
        """The pictures by name, each a function of a theme."""
        drawn = {
            f"beams-{test}": figures.beams(found) for test, found in self.beams.items() if found
        }
        if self.logs:
            for name, part, quantity, label in (
                ("train", "train", "nll_loss", "training nll (bits a token)"),
                ("valid", "valid", "nll_loss", "validation nll (bits a token)"),
                ("accuracy", "valid", "accuracy", "validation accuracy (%)"),
            ):
                runs = [(self.named[name]["loss"], epochs) for name, epochs in self.logs.items()]
                drawn[f"curves-{name}"] = figures.curves(runs, part, quantity, label)
        return drawn

    def train_commands(self):
        """Commands that train the runs; none where nobody knows their corpus."""
        if not self.results["data"]:
            return []
        return [commands.train(self.folder, self.results, record) for record in self.records]

    def evaluate_commands(self):
        """Commands that translate and score the test sets."""
        if not self.results["data"]:
            return []
        return [
            commands.evaluate(self.folder, record, test, kind)
            for record in self.records
            for test in self.results["tests"]
            for kind in record["scores"][test]
        ]


def comparison(test, loss, differences, p):
    """What differences of BLEU to cross-entropy, one a seed, can tell.

    Args:
        p: p-value of the paired bootstrap of the first seed's two models.

    Returns:
        A dict: ``seeds``, ``mean``, ``p``, and ``over_seeds``, the paired t-test
        (:class:`~..experiments.comparison.OverSeeds`), ``None`` where their spread is unknown.
    """
    return {
        "test": test,
        "loss": loss,
        "seeds": len(differences),
        "mean": statistics.fmean(differences),
        "p": p,
        "over_seeds": over_seeds(differences),
    }


def _named(records):
    """Records by what they are called: their loss where that says which one it is."""
    losses = [record["loss"] for record in records]
    return {
        record["loss"] if losses.count(record["loss"]) == 1 else record["run"]: record
        for record in records
    }
