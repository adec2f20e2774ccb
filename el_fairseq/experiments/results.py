"""Finished runs of an experiment, gathered in ``results.json``, and their translations.

``results.json`` holds what a table or a report says of the experiment as a whole (``experiment``,
its name, and ``word``, what a command in the repository's folder calls it by; ``title``, ``data``,
``source``, ``target``, ``tokenizer``, ``lowercased``, ``tests``, ``checkpoints``, ``published``,
``options``, ``report_options``) and ``runs``, a record each: the first kind of ``checkpoints`` is
the one that is compared, and ``scores[test][checkpoints]`` holds what ``scripts/evaluate.sh``
found.
"""

import argparse
import fcntl
import gzip
import zlib
from dataclasses import asdict
from pathlib import Path

from ..common.cli import UserError
from ..common.files import making
from ..common.paths import ROOT
from ..common.state import read_json, write_json
from ..common.text import lines_of
from ..corpora.manifest import read as read_corpus
from ..runs import training_log
from ..runs.experiment import loss_name
from ..runs.training import read_run

_PARTS = (
    *("experiment", "word", "title", "data", "source", "target", "tokenizer", "lowercased"),
    *("tests", "checkpoints", "published", "options", "report_options"),
)
_PARTS_OF_RUN = ("run", "criterion", "log_end", "loss", "seed", "scores")
_TRAIN_AGAIN = "delete that run's folder and run the experiment again"


def kinds_of_checkpoints(experiment):
    """Which models of a run are evaluated: ``averaged5``, ``best``; the first is compared."""
    averaged = [f"averaged{experiment.last}"] if experiment.last else []
    return averaged + (["best"] if experiment.best else [])


def tests_of(experiment, corpus):
    """Names of the experiment's test sets: those it chooses, or all of its corpus.

    Raises:
        UserError: the corpus has no test set of that name.
    """
    there = list(read_corpus(corpus).tests)
    for name in experiment.tests or []:
        if name not in there:
            raise UserError(
                f"{experiment.path}: corpus.tests names {name}, expected some of "
                f"{', '.join(there)}, which {corpus} holds"
            )
    return experiment.tests or there


def gather(experiment, folder):
    """Write ``results.json`` of the finished runs in a folder, if anything is new; return it.

    Raises:
        UserError: no run is finished, or they are not of one experiment, corpus and training.
    """
    folder = Path(folder)
    with (folder / "results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = _gathered(experiment, folder)
        try:
            before = read(folder)
        except UserError:
            before = None
        if results != before:
            write_json(folder / "results.json", results)
    return results


def read(folder):
    """The results in a folder.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = Path(folder, "results.json")
    results = read_json(path, "run the experiment (bash scripts/reproduce.sh) or its table.sh")
    if not isinstance(results.get("runs"), list) or not results["runs"]:
        raise UserError(f"{path} holds no runs: delete it, and run its experiment's table.sh")
    missing = [name for name in _PARTS if name not in results]
    missing += [name for name in _PARTS_OF_RUN if any(name not in one for one in results["runs"])]
    if missing:
        raise UserError(
            f"{path} is damaged (it lacks {', '.join(missing)}): delete it, and run its "
            "experiment's table.sh"
        )
    return results


def is_finished(experiment, folder, tests):
    """Whether the run in a folder is trained, and scored on all test sets."""
    return (folder / "training.json").exists() and all(
        (folder / "evaluation" / f"{test}-{kind}" / "scores.json").exists()
        for test in tests
        for kind in kinds_of_checkpoints(experiment)
    )


def shared_options(options):
    """fairseq-train options of a run without those in which runs of an experiment differ."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--criterion", "--log-end", "--seed"):
        reader.add_argument(name)
    reader.add_argument("--report-accuracy", action="store_true")
    return reader.parse_known_args(options)[1]


def compared_checkpoint(folder, results, run):
    """The model of a run that tables compare, where the run's folder still has it."""
    test, kind = results["tests"][0], results["checkpoints"][0]
    if kind == "best":
        return Path(folder, run, "checkpoints", "checkpoint_best.pt")
    return Path(folder, run, "evaluation", f"{test}-{kind}", "averaged.pt")


def hypotheses(folder, results, run, test, checkpoints):
    """Translations of a test set, plain text, by one run."""
    name = f"hypotheses.{results['target']}"
    return _lines(Path(folder, run, "evaluation", f"{test}-{checkpoints}", name))


def references(folder, results, test):
    """References of a test set, plain text."""
    exported = Path(folder, "references", f"{test}.{results['target']}")
    if exported.with_name(f"{exported.name}.gz").exists():
        return _lines(exported)
    run, kind = results["runs"][0]["run"], results["checkpoints"][0]
    name = f"references.{results['target']}"
    return _lines(Path(folder, run, "evaluation", f"{test}-{kind}", name))


def export(folder, results, to):
    """Copy what a table is made of into a new folder, small enough to keep: no paths, no models.

    Raises:
        UserError: ``to`` is there already.
    """
    if Path(to).exists():
        raise UserError(f"--export is {to}, which is there already: delete it, or name another")
    with making(to) as unfinished:
        records = [_with_curves(folder, record) for record in results["runs"]]
        write_json(unfinished / "results.json", {**results, "data": None, "runs": records})
        (unfinished / "references").mkdir()
        for test in results["tests"]:
            path = unfinished / "references" / f"{test}.{results['target']}"
            _write_packed(path, references(folder, results, test))
            for record in results["runs"]:
                for kind in record["scores"][test]:
                    where = unfinished / record["run"] / "evaluation" / f"{test}-{kind}"
                    where.mkdir(parents=True)
                    lines = hypotheses(folder, results, record["run"], test, kind)
                    _write_packed(where / f"hypotheses.{results['target']}", lines)


def _with_curves(folder, record):
    """A run's record with nll (bits) and accuracy (percent) over its updates, from its log."""
    log = Path(folder, record["run"], "train.log")
    if not log.is_file():
        return record
    epochs = [epoch for epoch in training_log.epochs(log) if epoch.keys() >= {"train", "valid"}]
    curves = {"updates": [int(epoch["valid"]["num_updates"]) for epoch in epochs]}
    for part in ("train", "valid"):
        for name, key in (("nll", "nll_loss"), ("accuracy", "accuracy")):
            curves[f"{part}_{name}"] = [epoch[part][key] for epoch in epochs]
    return {**record, "curves": curves}


def _gathered(experiment, folder):
    records, common, data = [], None, None
    for run in sorted(path.parent for path in folder.glob("*/run.json")):
        asked = read_run(run)
        if asked.get("experiment") != experiment.name:
            raise UserError(
                f"{run} is a run of the experiment {asked.get('experiment')}, expected "
                f"{experiment.name}: name the folder or the experiment that belongs to the other"
            )
        tests = tests_of(experiment, ROOT / asked["data"])
        if not is_finished(experiment, run, tests):
            continue
        same = {"corpus": asked["corpus"], "options": shared_options(asked["options"])}
        if common is not None and same != common:
            raise UserError(
                f"{run} was trained with other data or options than {records[0]['run']}: a table "
                "of both would compare more than the loss; move one of them to another folder"
            )
        common, data = same, ROOT / asked["data"]
        records.append(_record(experiment, run, asked, tests))
    if common is None:
        raise UserError(
            f"no run of {experiment.name} is finished in {folder}: "
            f"bash scripts/reproduce.sh {experiment.word}"
        )
    corpus = read_corpus(data)
    return {
        "experiment": experiment.name,
        "word": experiment.shown_word,
        "title": experiment.title,
        "data": str(data),
        "source": corpus.source,
        "target": corpus.target,
        "tokenizer": corpus.tokenizer,
        "lowercased": corpus.lowercased,
        "tests": tests_of(experiment, data),
        "checkpoints": kinds_of_checkpoints(experiment),
        "published": experiment.published and asdict(experiment.published),
        "options": common["options"],
        "report_options": experiment.report_options,
        "runs": sorted(records, key=lambda one: (one["log_end"] or 0, one["seed"])),
    }


def _record(experiment, run, asked, tests):
    trained = read_json(run / "training.json", _TRAIN_AGAIN)
    scores = {}
    for test in tests:
        scores[test] = {}
        for kind in kinds_of_checkpoints(experiment):
            path = run / "evaluation" / f"{test}-{kind}"
            advice = f"delete {path}, and run the experiment again"
            scores[test][kind] = read_json(path / "scores.json", advice)
    measures = run / "measures.json"
    if measures.exists():
        trained.update(read_json(measures, f"delete {measures}, and run scripts/measure.sh again"))
    return {
        "run": run.name,
        "criterion": asked["criterion"],
        "log_end": asked["log_end"],
        "loss": loss_name(asked["criterion"], asked["log_end"]),
        "seed": asked["seed"],
        "options": asked["options"],
        "processes": asked.get("processes", 1),
        **trained,
        "scores": scores,
    }


def _lines(path):
    packed = path.with_name(f"{path.name}.gz")
    if not packed.exists():
        return lines_of(path)
    try:
        return gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")[:-1]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{packed} is damaged ({error}): take it from a whole copy") from None


def _write_packed(path, lines):
    text = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text, mtime=0))
