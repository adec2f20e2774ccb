"""Numbers of finished runs: tables, differences with what they can tell, curves, calibration."""

import re
import shlex
import statistics
from pathlib import Path

from ..common.paths import shown
from ..common.state import read_json
from ..corpora import manifest
from ..experiments import training_log
from ..experiments.results import references
from ..experiments.scores import SCORES
from ..experiments.significance import bootstrap, over_seeds
from ..experiments.table import (
    all_tables,
    by_loss,
    differences,
    kept_results,
    kind_name,
    mean_and_deviation,
    notes,
    p_values,
)
from . import figures, translations

# Those that have intervals.
RESAMPLED = {score.key: score.name for score in SCORES if score.metric}


class Runs:
    """What the report says of the runs in a folder; ``results`` is their ``results.json``.

    Attributes are what the page asks for: ``tables`` with ``notes``, ``intervals`` (of each run's
    scores, by test set), ``comparisons`` (a dict for each loss but the baseline, on the compared
    test set, ``test``), ``calibration``, ``translations``, ``commands``, and the set-up.
    """

    def __init__(self, folder, results):
        self.folder, self.results = Path(folder), results
        self.kind = results["checkpoints"][0]
        self.records = results["runs"]
        self.losses = by_loss(results)
        self.baseline = results["losses"][0]
        self.test = in_words(results)
        self.tables, count = all_tables(results, p_values(results, self.folder))
        self.notes = notes(results, count)
        self.checkpoints = ", ".join(map(kind_name, results["checkpoints"]))
        self.intervals = {test: self._intervals(test) for test in results["tests"]}
        self.comparisons = [self._comparison(loss) for loss in self.losses if self._seeds(loss)]
        self.kept = kept_results(results, folder)
        self.calibration = self._calibration()
        self.translations = translations.of_first_runs(folder, results)
        self._set_up()
        self.commands = self._commands()

    def _intervals(self, test):
        """For each run of a test set its scores, ``(value, low, high)``, and p to the baseline."""
        reference = references(self.folder, self.results, test)
        rows = []
        for seed in sorted({record["seed"] for record in self.records}):
            records = [runs[seed] for runs in self.losses.values() if seed in runs]
            texts = [
                translations.of_run(self.folder, self.results, record, test, reference)
                for record in records
            ]
            paired = records[0]["loss"] == self.baseline
            for record, found in zip(records, self._resampled(texts, reference)):
                scores = record["scores"][test][self.kind]
                row = {name: (scores[name], *found[name][0]) for name in RESAMPLED}
                p = found["bleu"][1] if paired else None
                rows.append({**row, "run": record["run"], "p": p})
        return rows

    def _resampled(self, texts, reference):
        return bootstrap(texts, reference, self.results["target"], tuple(RESAMPLED))

    def _seeds(self, loss):
        """Differences of BLEU to the baseline on the compared test set, by seed."""
        if loss == self.baseline:
            return {}
        return differences(self.results, loss, self.results["tests"][0], "bleu")

    def _comparison(self, loss):
        """Seeds, mean, t-test over seeds (or ``None``), and p of the first seed's two models."""
        of_seeds = self._seeds(loss)
        first = self.losses[loss][next(iter(of_seeds))]["run"]
        rows = self.intervals[self.results["tests"][0]]
        return {
            "loss": loss,
            "seeds": len(of_seeds),
            "mean": statistics.fmean(of_seeds.values()),
            "over_seeds": over_seeds(list(of_seeds.values())),
            "p": next(row["p"] for row in rows if row["run"] == first),
        }

    def _calibration(self):
        """Means over seeds by loss, and as text with deviations; empty where a run has none."""
        found = {}
        for loss, by_seed in self.losses.items():
            measured = [record.get("calibration") for record in by_seed.values()]
            if not all(measured):
                return {}
            columns = {"temperature": [one["temperature"] for one in measured]}
            for when in ("before", "after"):
                errors = [one[when]["expected_calibration_error"] for one in measured]
                columns[when] = errors
                columns[f"nll_{when}"] = [one[when]["nll_nats"] for one in measured]
            found[loss] = {name: statistics.fmean(values) for name, values in columns.items()}
            found[loss]["seeds"] = len(measured)
            found[loss]["cells"] = [
                mean_and_deviation([100 * error for error in columns["before"]]),
                *(mean_and_deviation(columns[k], "{:.3f}") for k in ("nll_before", "temperature")),
                mean_and_deviation([100 * error for error in columns["after"]]),
                mean_and_deviation(columns["nll_after"], "{:.3f}"),
            ]
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
