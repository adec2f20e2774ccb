"""Finished runs of an experiment, gathered in ``results.json``, and their translations."""

import gzip
from pathlib import Path
from typing import Any, Dict, List, Optional

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import Annotated, Literal, NotRequired, TypedDict

from ..common.cli import UserError
from ..common.files import lines_of, read_json, write_json, writing
from ..common.paths import ROOT, shown
from ..corpora.manifest import read as read_corpus
from . import training_log
from .options import shared_options
from .train import read_run


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

    format: Literal[3]
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
    runs: Annotated[List[RunRecord], Field(min_length=1)]


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


def is_finished(experiment, folder, tests):
    """Whether the run in a folder is trained, and scored on all test sets."""
    return (folder / "training.json").exists() and all(
        (folder / "evaluation" / f"{test}-{kind}" / "scores.json").exists()
        for test in tests
        for kind in experiment.models
    )


def gather(experiment, folder):
    """Write ``results.json`` of the finished runs in a folder, and return it.

    Raises:
        UserError: no run is finished, or they are not of one experiment, corpus and training.
    """
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
        loss = experiment.loss(asked["loss"])
        same = {"corpus": asked["corpus"], "options": shared_options(asked["options"], loss)}
        if common not in (None, same):
            raise UserError(
                f"{run} was trained with other data or options than {records[0]['run']}: a table "
                "of both would compare more than the loss; move one of them to another folder"
            )
        common, data = same, ROOT / asked["data"]
        records.append(_record(experiment, run, asked, tests))
    if not records:
        raise UserError(
            f"no run of {experiment.name} is finished in {folder}: "
            f"bash scripts/reproduce.sh {experiment.argument}"
        )
    corpus, losses = read_corpus(data), list(experiment.losses)
    results = {
        "format": 3,
        "experiment": experiment.name,
        "word": experiment.argument,
        "title": experiment.title,
        "data": shown(data),
        "corpus": common["corpus"],
        "source": corpus.source,
        "target": corpus.target,
        "tokenizer": corpus.tokenizer,
        "lowercased": corpus.lowercased,
        "redistributable": corpus.redistributable,
        "losses": losses,
        "tests": tests_of(experiment, data),
        "checkpoints": list(experiment.models),
        "published": experiment.published.model_dump(mode="json"),
        "options": common["options"],
        "report_options": experiment.report.options,
        "runs": in_order(losses, records),
    }
    try:
        write_json(Path(folder, "results.json"), results)
    except PermissionError:
        print(f"warning: {folder} is not writable, and its results.json is left as it is")
    return {**results, "data": str(data)}


def _record(experiment, run, asked, tests):
    again = f"delete {run}, and run the experiment again"
    record = read_json(run / "training.json", again)
    if (run / "measures.json").exists():
        measured = read_json(run / "measures.json", "delete it, and run scripts/measure.sh")
        compared = next(iter(experiment.models))
        if measured.pop("checkpoints", compared) == compared:
            record.update(measured)
    scores = {
        test: {
            kind: read_json(run / "evaluation" / f"{test}-{kind}" / "scores.json", again)
            for kind in experiment.models
        }
        for test in tests
    }
    same = {name: asked[name] for name in ("loss", "seed", "options", "command", "device", "gpus")}
    return {"run": run.name, **same, **record, "scores": scores}


def in_order(losses, records):
    """Records by loss, in the experiment's order, and by seed."""
    return sorted(records, key=lambda one: (losses.index(one["loss"]), one["seed"]))


def read(folder):
    """The :class:`Results` in a folder.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = Path(folder, "results.json")
    results = read_json(path, "run the experiment (bash scripts/reproduce.sh) or its table.sh")
    try:
        results = TypeAdapter(Results).validate_python(results)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path} is damaged, or of another version of el_fairseq "
            f"({'.'.join(map(str, first['loc']))}: {first['msg']}): delete it, and run its "
            "experiment's table.sh"
        ) from None
    return {**results, "data": results["data"] and str(ROOT / results["data"])}


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


def has_texts(folder, results):
    """Whether references and hypotheses are there: kept results may hold scores alone."""
    try:
        references(folder, results, results["tests"][0])
    except UserError:
        return False
    return True


def export(folder, results, p_values, to):
    """Copy what a table is made of into a folder, small enough to keep: no paths, no models.

    Of a run that is in the folder already the new record takes the place. Of the compared test set
    and checkpoints the hypotheses are kept; the references where the corpus may be redistributed.

    Raises:
        UserError: the folder holds something else than results of the same experiment.
    """
    to, records, kept_p = Path(to), {}, {}
    if to.exists() and any(to.iterdir()):
        if not (to / "results.json").exists():
            raise UserError(f"--export is {to}, which holds something else: name another folder")
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


def with_curves(folder, record):
    """A run's record with its curves, where its log is there: see :func:`.training_log.curves`."""
    log = Path(folder, record["run"], "train.log")
    return {**record, "curves": training_log.curves(log)} if log.is_file() else record


def _lines(path):
    packed = path.with_name(f"{path.name}.gz")
    if not packed.exists():
        return lines_of(path)
    return gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")[:-1]


def _write_packed(path, lines):
    text = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path.with_name(f"{path.name}.gz"), "wb") as file:
        file.write(gzip.compress(text, mtime=0))
