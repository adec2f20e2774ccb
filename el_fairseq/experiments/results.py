"""Finished runs of an experiment, gathered in ``results.json``, and their translations.

``results.json`` says of the experiment: ``format``, ``experiment`` (its name), ``title``, ``data``
and ``corpus`` (folder and checksum), ``source``, ``target``, ``tokenizer``, ``lowercased``,
``redistributable``, ``published``, ``options`` (that its trainings share), ``loss_options`` (of
each loss) and ``report_options``. The first of ``losses`` is what the others are compared with, on
the first of ``tests``, by the first kind of ``checkpoints``; ``p_values[loss][test][seed]`` tell of
that, by the paired bootstrap of BLEU.

``runs`` holds a record of each run: ``run`` (its name), ``loss``, ``seed``, ``options``,
``command``, ``device``, ``gpus``; how the training ended: ``updates``, ``minutes``, ``valid_nll``
(bits), ``valid_accuracy`` (%); and ``scores[test][checkpoints]``, each a ``scores.json``. What
scripts/measure.sh measured: ``beams[test][size]`` and ``tempered[test]``, scores of other decodes,
and ``calibration``. Exported ones hold ``curves``, numbers by epoch.
"""

import functools
import gzip
from pathlib import Path

from ..common.cli import UserError
from ..common.files import lines_of, read_json, write_json, writing
from ..common.paths import ROOT
from ..corpora.manifest import read as read_corpus
from . import training_log
from .options import shared_options
from .significance import bootstrap_p
from .train import FORMAT, check_same, read_record, read_run


class Results(dict):
    """What ``results.json`` holds. ``folder`` holds the runs; losses are compared with
    ``baseline``, on ``test``, by checkpoints of ``kind``."""

    def __init__(self, folder, content):
        super().__init__(content)
        self.folder = Path(folder)
        self["runs"].sort(key=lambda one: (self["losses"].index(one["loss"]), one["seed"]))
        self.baseline, self.test, self.kind = (
            self[name][0] for name in ("losses", "tests", "checkpoints")
        )

    @functools.cached_property
    def corpus(self):
        """The corpus of the runs; ``None`` of exported results, which do not name it."""
        return self["data"] and read_corpus(ROOT / self["data"])

    def of(self, runs):
        """The same with these records alone."""
        return Results(self.folder, {**self, "runs": runs})

    def by_loss(self):
        """Records by loss, in the experiment's order, and by seed: ``{loss: {seed: record}}``."""
        groups = {}
        for record in self["runs"]:
            groups.setdefault(record["loss"], {})[record["seed"]] = record
        return groups

    def compared_losses(self):
        """The losses that have a seed in common with the baseline."""
        return [loss for loss in self.by_loss() if loss != self.baseline and self.paired(loss)]

    def paired(self, loss):
        """``{seed: (record of the baseline, record of the loss)}`` where both have the seed."""
        groups = self.by_loss()
        before, own = groups.get(self.baseline, {}), groups.get(loss, {})
        return {seed: (before[seed], record) for seed, record in own.items() if seed in before}

    def differences(self, loss, value):
        """``{seed: loss minus baseline}`` of ``value(record)``, where both have the seed.

        Every difference that is printed, drawn or tested is one of these. Nine decimals, so that
        two scores as they are stored, to two decimals, differ by no more than they show.
        """
        return {
            seed: round(value(after) - value(before), 9)
            for seed, (before, after) in self.paired(loss).items()
        }

    def score(self, key, test=None, kind=None):
        """Function of a record to a score of it; that which is compared where no more is said."""
        return lambda record: record["scores"][test or self.test][kind or self.kind][key]

    def p_value(self, loss, seed, test=None):
        """That of the bootstrap; ``None`` where two runs were exported one without the other."""
        return self["p_values"].get(loss, {}).get(test or self.test, {}).get(str(seed))

    def checkpoint(self, run):
        """The model of a run that tables compare, where the run's folder still has it."""
        if self.kind == "best":
            return self.folder / run / "checkpoints" / "checkpoint_best.pt"
        return self.folder / self.evaluation(run) / "averaged.pt"

    def evaluation(self, run, test=None):
        """The folder of a run's evaluation by the compared checkpoints, below that of the runs."""
        return Path(run, "evaluation", f"{test or self.test}-{self.kind}")

    def hypotheses(self, run, test=None):
        """Translations of a test set by the compared checkpoints of a run, plain text."""
        return self._lines(self.evaluation(run, test) / "hypotheses")

    def references(self, test=None):
        """References of a test set, plain text."""
        if (self.folder / "references").exists():
            return self._lines(Path("references", test or self.test))
        return self._lines(self.evaluation(self["runs"][0]["run"], test) / "references")

    def _lines(self, path):
        path = self.folder / f"{path}.{self['target']}"
        packed = path.with_name(f"{path.name}.gz")
        return list(lines_of(packed if packed.exists() else path))

    def has_texts(self):
        """Whether references and hypotheses are there: kept results may hold scores alone."""
        try:
            return bool(self.references())
        except UserError:
            return False

    def curves(self, record):
        """Numbers by epoch by its log (:func:`.training_log.curves`) or kept, or ``None``."""
        log = self.folder / record["run"] / "train.log"
        return training_log.curves(log) if log.is_file() else record.get("curves")


def tests_of(experiment, corpus):
    """Names of the experiment's test sets: those it chooses, or all of its corpus."""
    corpus = read_corpus(corpus)
    tests = experiment.corpus.tests or corpus.scored
    for name in set(tests) - set(corpus.scored):
        raise UserError(f"corpus.tests names {name}, expected some of {', '.join(corpus.scored)}")
    return tests


def is_finished(experiment, folder, tests):
    """Whether the run in a folder is trained, and scored on all test sets."""
    return (folder / "training.json").exists() and all(
        (folder / "evaluation" / f"{test}-{kind}" / "scores.json").exists()
        for test in tests
        for kind in experiment.models
    )


def collect(experiment, folder):
    """:class:`Results` of the finished runs in a folder, without p-values."""
    records, common, data = [], None, None
    for run in sorted(path.parent for path in Path(folder).glob("*/run.json")):
        asked = read_run(run)
        if asked["experiment"] != experiment.name:
            raise UserError(
                f"{run} is a run of the experiment {asked['experiment']}, expected "
                f"{experiment.name}: name the folder or the experiment that belongs to the other"
            )
        tests = tests_of(experiment, ROOT / asked["data"])
        if asked["loss"] not in experiment.losses or not is_finished(experiment, run, tests):
            continue
        own = experiment.losses[asked["loss"]]
        shared = shared_options(asked["options"], asked["loss"], own)
        same = {"corpus": asked["corpus"], "options": shared}
        if common:
            advice = f"a table compares losses alone: move {run} or the others to another folder"
            check_same(common, same, same, f"{records[0]['run']} was trained", advice)
        common, data = same, asked["data"]
        records.append(_record(experiment, run, asked, tests))
    if not records:
        raise UserError(
            f"no run of {experiment.name} is finished in {folder}: "
            f"bash scripts/reproduce.sh {experiment.argument}"
        )
    corpus = read_corpus(ROOT / data)
    of_corpus = ("source", "target", "tokenizer", "lowercased", "redistributable")
    content = {
        "format": FORMAT,
        "experiment": experiment.name,
        "title": experiment.title,
        "data": data,
        "corpus": common["corpus"],
        **{name: getattr(corpus, name) for name in of_corpus},
        "losses": list(experiment.losses),
        "tests": tests_of(experiment, ROOT / data),
        "checkpoints": list(experiment.models),
        "published": experiment.published.model_dump(mode="json"),
        "options": common["options"],
        "loss_options": experiment.losses,
        "report_options": experiment.report.options,
        "runs": records,
    }
    return Results(folder, content)


def gather(experiment, folder):
    """Write ``results.json`` of the finished runs in a folder, and return its :class:`Results`."""
    results = collect(experiment, folder)
    results["p_values"] = {loss: {} for loss in results.compared_losses()}
    for test in results["tests"] if results["p_values"] else ():
        references, texts = results.references(test), functools.lru_cache(results.hypotheses)
        for loss, of_tests in results["p_values"].items():
            of_tests[test] = {
                str(seed): bootstrap_p(
                    *(texts(record["run"], test) for record in both), references, results["target"]
                )
                for seed, both in results.paired(loss).items()
            }
    try:
        write_json(results.folder / "results.json", results)
    except PermissionError:
        print(f"warning: {folder} is not writable, and its results.json is left as it is")
    return results


def _record(experiment, run, asked, tests):
    again, kinds = f"delete {run}, and run the experiment again", list(experiment.models)
    of_run = ("loss", "seed", "options", "command", "device", "gpus")
    record = {"run": run.name, **{name: asked[name] for name in of_run}}
    record.update(read_json(run / "training.json", again))
    if (run / "measures.json").exists():
        measured = read_json(run / "measures.json", "delete it, and run scripts/measure.sh")
        if measured.pop("checkpoints", kinds[0]) == kinds[0]:
            record.update(measured)
    record["scores"] = {
        test: {
            kind: read_json(run / "evaluation" / f"{test}-{kind}" / "scores.json", again)
            for kind in kinds
        }
        for test in tests
    }
    return record


def read(folder):
    """The :class:`Results` in a folder."""
    advice = "run its experiment again, or its table.sh"
    return Results(folder, read_record(Path(folder, "results.json"), advice))


def export(results, to):
    """Copy what a table is made of into a folder, without paths and models.

    A new record replaces that of the same run. Of the compared test set and checkpoints the
    hypotheses are kept; the references where the corpus may be redistributed.
    """
    to, records, p_values = Path(to), {}, {}
    if to.exists() and any(to.iterdir()):
        kept = read(to)
        parts = ("experiment", "corpus", "options", "tests", "checkpoints")
        check_same(kept, results, parts, f"--export is {to}, made", "name another folder")
        records, p_values = {one["run"]: one for one in kept["runs"]}, kept["p_values"]

    def write(lines, path):
        path = to / f"{path}.{results['target']}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, "wb") as file:
            text = "".join(f"{line}\n" for line in lines)
            file.write(gzip.compress(text.encode("utf-8"), mtime=0))

    for record in results["runs"]:
        run, curves = record["run"], results.curves(record)
        records[run] = {**record, "command": [], **({"curves": curves} if curves else {})}
        write(results.hypotheses(run), results.evaluation(run) / "hypotheses")
    if results["redistributable"]:
        write(results.references(), Path("references", results.test))
    for loss, of_tests in results["p_values"].items():
        for test, of_seeds in of_tests.items():
            p_values.setdefault(loss, {}).setdefault(test, {}).update(of_seeds)
    runs = list(records.values())
    kept = Results(to, {**results, "data": None, "p_values": p_values, "runs": runs})
    write_json(to / "results.json", kept)
    return kept
