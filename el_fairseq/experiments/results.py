"""Finished runs of an experiment, gathered in ``results.json``, and their translations.

``results.json`` says of the experiment: ``format``, ``experiment`` (its name), ``word`` (what
commands call it by), ``title``, ``data`` and ``corpus`` (folder and checksum), ``source``,
``target``, ``tokenizer``, ``lowercased``, ``redistributable``, ``published``, ``options`` (that its
trainings share) and ``report_options``. The first of ``losses`` is what the others are compared
with, on the first of ``tests``, by the first kind of ``checkpoints``. Exported results hold
``p_values[loss][test][seed]``, too.

``runs`` holds a record of each run: ``run`` (its name), ``loss``, ``seed``, ``options``,
``command``, ``device``, ``gpus``; how the training ended: ``updates``, ``minutes``, ``valid_nll``
(bits), ``valid_accuracy`` (%); and ``scores[test][checkpoints]``, each a ``scores.json``. What
scripts/measure.sh measured: ``beams[test][size]`` and ``tempered[test]``, scores of other decodes,
and ``calibration``. Exported ones hold ``curves``, numbers by epoch.
"""

import gzip
from pathlib import Path

from ..common.cli import UserError
from ..common.files import lines_of, read_json, write_json, writing
from ..common.paths import ROOT, shown
from ..corpora.manifest import read as read_corpus
from . import training_log
from .options import shared_options
from .train import read_run

FORMAT = 3


def tests_of(experiment, corpus):
    """Names of the experiment's test sets: those it chooses, or all of its corpus."""
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
    """Write ``results.json`` of the finished runs in a folder, and return it."""
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
    of_corpus = ("source", "target", "tokenizer", "lowercased", "redistributable")
    results = {
        "format": FORMAT,
        "experiment": experiment.name,
        "word": experiment.argument,
        "title": experiment.title,
        "data": shown(data),
        "corpus": common["corpus"],
        **{name: getattr(corpus, name) for name in of_corpus},
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
    again, kinds = f"delete {run}, and run the experiment again", list(experiment.models)
    record = {"run": run.name}
    for name in ("loss", "seed", "options", "command", "device", "gpus"):
        record[name] = asked[name]
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


def in_order(losses, records):
    """Records by loss, in the experiment's order, and by seed."""
    return sorted(records, key=lambda one: (losses.index(one["loss"]), one["seed"]))


def read(folder):
    """The results in a folder."""
    path = Path(folder, "results.json")
    results = read_json(path, "run the experiment (bash scripts/reproduce.sh) or its table.sh")
    if results.get("format") != FORMAT:
        raise UserError(
            f"{path} is of format {results.get('format', 1)}, expected {FORMAT}: it is of another "
            "version of el_fairseq; delete it, and run its experiment's table.sh"
        )
    missing = {"experiment", "data", "losses", "tests", "checkpoints", "options"} - results.keys()
    if missing or not results.get("runs"):
        raise UserError(
            f"{path} is damaged ({', '.join(sorted(missing)) or 'runs'} is missing): delete it, "
            "and run its experiment's table.sh"
        )
    return {**results, "data": results["data"] and str(ROOT / results["data"])}


def compared_checkpoint(folder, results, run):
    """The model of a run that tables compare, where the run's folder still has it."""
    test, kind = results["tests"][0], results["checkpoints"][0]
    if kind == "best":
        return Path(folder, run, "checkpoints", "checkpoint_best.pt")
    return Path(folder, run, "evaluation", f"{test}-{kind}", "averaged.pt")


def hypotheses(folder, results, run, test, checkpoints):
    """Translations of a test set, plain text, by one run."""
    return _lines(folder, results, Path(run, "evaluation", f"{test}-{checkpoints}", "hypotheses"))


def references(folder, results, test):
    """References of a test set, plain text."""
    run, kind = results["runs"][0]["run"], results["checkpoints"][0]
    exported = Path("references", test)
    own = Path(run, "evaluation", f"{test}-{kind}", "references")
    return _lines(folder, results, exported if Path(folder, "references").exists() else own)


def _lines(folder, results, path):
    path = Path(folder, f"{path}.{results['target']}")
    packed = path.with_name(f"{path.name}.gz")
    if not packed.exists():
        return lines_of(path)
    return gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")[:-1]


def has_texts(folder, results):
    """Whether references and hypotheses are there: kept results may hold scores alone."""
    try:
        return bool(references(folder, results, results["tests"][0]))
    except UserError:
        return False


def export(folder, results, p_values, to):
    """Copy what a table is made of into a folder, without paths and models.

    A new record replaces that of the same run. Of the compared test set and checkpoints the
    hypotheses are kept; the references where the corpus may be redistributed.
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

    def write(lines, *path):
        path = Path(to, *path[:-1], f"{path[-1]}.{results['target']}.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, "wb") as file:
            text = "".join(f"{line}\n" for line in lines)
            file.write(gzip.compress(text.encode("utf-8"), mtime=0))

    for record in results["runs"]:
        records[record["run"]] = with_curves(folder, {**record, "command": []})
        lines = hypotheses(folder, results, record["run"], test, kind)
        write(lines, record["run"], "evaluation", f"{test}-{kind}", "hypotheses")
    if results["redistributable"]:
        write(references(folder, results, test), "references", test)
    for loss, by_test in p_values.items():
        for name, by_seed in by_test.items():
            of_test = kept_p.setdefault(loss, {}).setdefault(name, {})
            of_test.update({str(seed): p for seed, p in by_seed.items()})
    runs = in_order(results["losses"], records.values())
    exported = {**results, "data": None, "p_values": kept_p, "runs": runs}
    write_json(to / "results.json", exported)
    return exported


def with_curves(folder, record):
    """A run's record with its curves, where its log is there: see :func:`.training_log.curves`."""
    log = Path(folder, record["run"], "train.log")
    return {**record, "curves": training_log.curves(log)} if log.is_file() else record
