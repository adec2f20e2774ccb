"""Finished runs of an experiment, gathered in ``results.json``, and their translations."""

import fcntl
import gzip
import zlib
from pathlib import Path
from typing import Any, Dict, List, Optional

from pydantic import TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from ..common.cli import UserError
from ..common.files import writing
from ..common.paths import ROOT, shown
from ..common.state import read_json, write_json
from ..common.text import lines_of
from ..corpora.manifest import read as read_corpus
from . import training_log
from .options import shared_options
from .train import read_run

FORMAT = 3
_TRAIN_AGAIN = "delete that run's folder and run the experiment again"


class RunRecord(TypedDict):
    """What is known of a finished run. ``scores[test][checkpoints]`` is its ``scores.json``."""

    run: str
    loss: str
    seed: int
    options: List[str]
    command: NotRequired[List[str]]
    device: NotRequired[str]
    gpus: NotRequired[int]
    updates: int
    minutes: NotRequired[float]
    valid_nll: NotRequired[float]
    valid_accuracy: NotRequired[float]
    scores: Dict[str, Dict[str, Dict[str, Any]]]
    # What scripts/measure.sh adds: scores of each test set by beam size, and of a decode at the
    # fitted temperature; calibration as el_fairseq.analysis.calibration has it.
    beams: NotRequired[Dict[str, Dict[str, Dict[str, Any]]]]
    tempered: NotRequired[Dict[str, Dict[str, Any]]]
    calibration: NotRequired[Dict[str, Any]]
    # Numbers by epoch, in exported results.
    curves: NotRequired[Dict[str, List[float]]]


class Results(TypedDict):
    """What ``results.json`` holds: the experiment as a whole, and its runs.

    The first of ``losses`` is what the others are compared with, on the first of ``tests``, by the
    first kind of ``checkpoints``. ``p_values[loss][test][seed]`` are kept where the texts that they
    come from are not.
    """

    format: int
    experiment: str
    word: str
    title: str
    data: Optional[str]
    corpus: Optional[str]
    source: str
    target: str
    tokenizer: Optional[str]
    lowercased: bool
    redistributable: bool
    losses: List[str]
    tests: List[str]
    checkpoints: List[str]
    published: Dict[str, Any]
    options: List[str]
    report_options: List[str]
    p_values: NotRequired[Dict[str, Dict[str, Dict[str, float]]]]
    runs: List[RunRecord]


_RESULTS = TypeAdapter(Results)


def kinds_of_checkpoints(experiment):
    """Which models of a run are evaluated: ``averaged5``, ``best``; the first is compared."""
    averaged = [f"averaged{experiment.evaluate.last}"] if experiment.evaluate.last else []
    return averaged + (["best"] if experiment.evaluate.best else [])


def tests_of(experiment, corpus):
    """Names of the experiment's test sets: those it chooses, or all of its corpus.

    Raises:
        UserError: the corpus has no test set of that name.
    """
    there = read_corpus(corpus).scored
    for name in experiment.corpus.tests or []:
        if name not in there:
            raise UserError(
                f"{experiment.path}: corpus.tests names {name}, expected some of "
                f"{', '.join(there)}, which {corpus} holds"
            )
    return experiment.corpus.tests or there


def gather(experiment, folder):
    """Write ``results.json`` of the finished runs in a folder, if anything is new; return it.

    Raises:
        UserError: no run is finished, or they are not of one experiment, corpus and training.
    """
    folder = Path(folder)
    results = _gathered(experiment, folder)
    try:
        with (folder / "results.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                before = read(folder)
            except UserError:
                before = None
            if results != before:
                data = results["data"] and shown(results["data"])
                write_json(folder / "results.json", {**results, "data": data})
    except PermissionError:
        print(f"warning: {folder} is not writable, and its results.json is left as it is")
    return results


def read(folder):
    """The :class:`Results` in a folder.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = Path(folder, "results.json")
    again = "run the experiment (bash scripts/reproduce.sh) or its table.sh"
    results = read_json(path, again)
    if results.get("format") != FORMAT:
        raise UserError(
            f"{path} is of format {results.get('format', 1)}, expected {FORMAT}: delete it, and "
            "run its experiment's table.sh"
        )
    if not results.get("runs"):
        raise UserError(f"{path} holds no runs: delete it, and run its experiment's table.sh")
    try:
        results = _RESULTS.validate_python(results)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(
            f"{path} is damaged ({where}: {error.errors()[0]['msg']}): delete it, and run its "
            "experiment's table.sh"
        ) from None
    return {**results, "data": results["data"] and str(ROOT / results["data"])}


def is_finished(experiment, folder, tests):
    """Whether the run in a folder is trained, and scored on all test sets."""
    return (folder / "training.json").exists() and all(
        (folder / "evaluation" / f"{test}-{kind}" / "scores.json").exists()
        for test in tests
        for kind in kinds_of_checkpoints(experiment)
    )


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


def has_texts(folder, results):
    """Whether references and hypotheses are there: kept results may hold scores alone."""
    try:
        references(folder, results, results["tests"][0])
    except UserError:
        return False
    return True


def references(folder, results, test):
    """References of a test set, plain text."""
    exported = Path(folder, "references", f"{test}.{results['target']}")
    if exported.with_name(f"{exported.name}.gz").exists():
        return _lines(exported)
    run, kind = results["runs"][0]["run"], results["checkpoints"][0]
    name = f"references.{results['target']}"
    return _lines(Path(folder, run, "evaluation", f"{test}-{kind}", name))


def export(folder, results, p_values, to):
    """Copy what a table is made of into a folder, small enough to keep: no paths, no models.

    Of a run that is in the folder already the new record takes the place. Of the compared test set
    and checkpoints the hypotheses are kept; the references where the corpus may be redistributed.

    Raises:
        UserError: the folder holds something else than results of the same experiment.
    """
    to, records, kept_p = Path(to), {}, {}
    if to.exists() and any(to.iterdir()):
        kept = read(to)
        for part in ("experiment", "corpus", "options", "tests", "checkpoints"):
            if kept[part] != results[part]:
                raise UserError(
                    f"--export is {to}, whose results are of another {part}: name another folder"
                )
        records, kept_p = {one["run"]: one for one in kept["runs"]}, kept.get("p_values", {})
    test, kind = results["tests"][0], results["checkpoints"][0]
    for record in results["runs"]:
        records[record["run"]] = with_curves(folder, {**record, "command": []})
        lines = hypotheses(folder, results, record["run"], test, kind)
        where = to / record["run"] / "evaluation" / f"{test}-{kind}"
        _write_packed(where / f"hypotheses.{results['target']}", lines)
    if results["redistributable"]:
        path = to / "references" / f"{test}.{results['target']}"
        _write_packed(path, references(folder, results, test))
    for loss, by_test in p_values.items():
        for name, by_seed in by_test.items():
            kept_p.setdefault(loss, {}).setdefault(name, {}).update(
                {str(seed): p for seed, p in by_seed.items()}
            )
    runs = in_order(results["losses"], records.values())
    exported = {**results, "data": None, "p_values": kept_p, "runs": runs}
    write_json(to / "results.json", exported)
    return exported


def in_order(losses, records):
    """Records by loss, in the experiment's order, and by seed."""
    return sorted(records, key=lambda one: (losses.index(one["loss"]), one["seed"]))


def with_curves(folder, record):
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
        if asked["experiment"] != experiment.name:
            raise UserError(
                f"{run} is a run of the experiment {asked['experiment']}, expected "
                f"{experiment.name}: name the folder or the experiment that belongs to the other"
            )
        tests = tests_of(experiment, ROOT / asked["data"])
        if asked["loss"] not in experiment.losses or not is_finished(experiment, run, tests):
            continue
        loss = experiment.loss(asked["loss"])
        same = {"corpus": asked["corpus"], "options": shared_options(asked["options"], loss)}
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
    losses = list(experiment.losses)
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "word": experiment.word,
        "title": experiment.title,
        "data": str(data),
        "corpus": common["corpus"],
        "source": corpus.source,
        "target": corpus.target,
        "tokenizer": corpus.tokenizer,
        "lowercased": corpus.lowercased,
        "redistributable": corpus.redistributable,
        "losses": losses,
        "tests": tests_of(experiment, data),
        "checkpoints": kinds_of_checkpoints(experiment),
        "published": experiment.published.model_dump(mode="json"),
        "options": common["options"],
        "report_options": experiment.report.options,
        "runs": in_order(losses, records),
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
    measured = run / "measures.json"
    if measured.exists():
        advice = f"delete {measured}, and run scripts/measure.sh again"
        trained.update(read_json(measured, advice))
    same = {name: asked[name] for name in ("loss", "seed", "options", "command", "device", "gpus")}
    return {"run": run.name, **same, **trained, "scores": scores}


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
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path.with_name(f"{path.name}.gz"), "wb") as file:
        file.write(gzip.compress(text, mtime=0))
