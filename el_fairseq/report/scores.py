"""Numbers of finished runs: tables, differences with what they can tell, curves, calibration."""

import re
import shlex
import statistics
from pathlib import Path

from ..common.paths import shown
from ..common.state import read_json
from ..corpora import manifest
from ..experiments import training_log
from ..experiments.results import has_texts, references
from ..experiments.scores import SCORES
from ..experiments.significance import bootstrap, over_seeds
from ..experiments.table import (
    all_tables,
    by_loss,
    compared_losses,
    differences,
    kept_results,
    kind_name,
    notes,
    p_values,
)
from . import figures, translations

# Scores that have intervals, by key.
RESAMPLED = {score.key: score.name for score in SCORES if score.metric}


class Runs:
    """What the report says of the runs in a folder; ``results`` is their ``results.json``.

    Attributes are what the page asks for: ``tables`` with ``notes``, and of the compared test set,
    ``test``, ``comparisons`` (a dict for each loss but the baseline), ``calibration`` (means over
    seeds), ``intervals`` (of each run's scores) and ``translations``, both ``None`` where the texts
    are not kept; ``commands``, and the set-up.
    """

    def __init__(self, folder, results):
        self.folder, self.results = Path(folder), results
        self.kind = results["checkpoints"][0]
        self.records = results["runs"]
        self.losses = by_loss(results)
        self.baseline = results["losses"][0]
        self.test = in_words(results)
        self.p_values = p_values(results, self.folder)
        self.tables, count = all_tables(results, self.p_values)
        self.notes = notes(results, count)
        self.checkpoints = ", ".join(map(kind_name, results["checkpoints"]))
        compared = [loss for loss in compared_losses(results) if self._seeds(loss)]
        self.comparisons = [self._comparison(loss) for loss in compared]
        self.kept = kept_results(results, folder)
        self.calibration = self._calibration()
        self.intervals = self.translations = None
        if has_texts(self.folder, results):
            self.intervals = self._intervals()
            self.translations = translations.of_first_runs(folder, results)
        self._set_up()
        self.commands = self._commands()

    def _intervals(self):
        """A row for each run: its scores, ``(value, low, high)``, and p to the baseline."""
        test, target = self.results["tests"][0], self.results["target"]
        reference, rows = references(self.folder, self.results, test), []
        texts = [
            translations.of_run(self.folder, self.results, record, test, reference)
            for record in self.records
        ]
        resampled = bootstrap(texts, reference, target, tuple(RESAMPLED))
        for record, found in zip(self.records, resampled):
            scores = record["scores"][test][self.kind]
            p = self.p_values.get(record["loss"], {}).get(test, {}).get(record["seed"])
            values = [(scores[key], *found[key][0]) for key in RESAMPLED]
            rows.append({"run": record["run"], "scores": values, "p": p})
        return rows

    def _seeds(self, loss):
        """Differences of BLEU to the baseline on the compared test set, by seed."""
        return differences(self.results, loss, self.results["tests"][0], "bleu")

    def _comparison(self, loss):
        """Seeds, mean, t-test over seeds (or ``None``), and p of the first seed's two models."""
        of_seeds = self._seeds(loss)
        by_seed = self.p_values.get(loss, {}).get(self.results["tests"][0], {})
        return {
            "loss": loss,
            "seeds": len(of_seeds),
            "mean": statistics.fmean(of_seeds.values()),
            "over_seeds": over_seeds(list(of_seeds.values())),
            "p": by_seed.get(next(iter(of_seeds))),
        }

    def _calibration(self):
        """Mean calibration error ``before`` and ``after``, by loss; empty where a run has none."""
        found = {}
        for loss, by_seed in self.losses.items():
            measured = [record.get("calibration") for record in by_seed.values()]
            if not all(measured):
                return {}
            found[loss] = {
                when: statistics.fmean(one[when]["expected_calibration_error"] for one in measured)
                for when in ("before", "after")
            }
        return found

    def _set_up(self):
        self.options = shlex.join(self.results["options"])
        data = self.results["data"]
        self.data = shown(data) if data else None
        self.pairs = manifest.read(data).pairs if data else {}
        log = self.folder / self.records[0]["run"] / "train.log"
        text = log.read_text("utf-8", "replace") if log.is_file() else ""
        found = re.search(r"num\. shared model params: ([\d,]+)", text)
        self.parameters = found[1] if found else None

    def _commands(self):
        """The commands that trained and scored the runs, where the records hold them."""
        given = [record.get("command") for record in self.records]
        for record in self.records:
            for path in sorted(self.folder.glob(f"{record['run']}/evaluation/*/evaluation.json")):
                given.append(read_json(path, "evaluate that run again").get("command"))
        return [one if isinstance(one, str) else shlex.join(one) for one in given if one]

    def curves(self):
        """(loss, epochs) of every run whose log, or exported curves, are there."""
        found = [(record["loss"], self._epochs(record)) for record in self.records]
        return [(loss, epochs) for loss, epochs in found if epochs]

    def _epochs(self, record):
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

    def drawings(self):
        """The pictures by name, PNG."""
        curves = self.curves()
        drawn = (
            ("curves-train", "train", "nll_loss", "training nll (bits a token)"),
            ("curves-valid", "valid", "nll_loss", "validation nll (bits a token)"),
            ("curves-accuracy", "valid", "accuracy", "validation accuracy (%)"),
        )
        return {name: figures.curves(curves, *how) for name, *how in drawn} if curves else {}


def in_words(results):
    """The test set that losses are compared on, as a sentence names it."""
    first, *others = results["tests"]
    if first == manifest.ALL:
        return "all test sets together"
    return "the test set" if first == "test" and not others else f"the test set {first}"
