"""Made-up experiments, results as ``results.gather`` leaves them, and the folders of such runs."""

import json
import os
import shutil

from el_fairseq.experiments.config import read_experiment
from el_fairseq.experiments.results import Results

REFERENCES = [f"the cat number {n} sat on mat {n % 7} of the house" for n in range(200)]
GOOD = [line if n % 4 else line.replace("cat", "dog") for n, line in enumerate(REFERENCES)]
BAD = [line.replace("sat on", "stood at") if n % 3 else line for n, line in enumerate(REFERENCES)]

LOSSES = {
    "CE": ["--criterion", "label_smoothed_cross_entropy"],
    "EL": ["--criterion", "encouraging_loss", "--log-end", "0.5"],
}
KIND = "averaged2"
AWKWARD = "<b>bold</b> & | pipe {name}"

EXPERIMENT = """
title = "Small"
corpus.command = "none"
train.options = "--lr 1"
evaluate.last = 10
evaluate.best = true
"""


class TouchesAFile:
    """Its code, which an unsafe loader would run, makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def experiment_of(folder, text=EXPERIMENT, **options):
    """The experiment that a file of this text in ``folder`` describes."""
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return read_experiment(path, **options)


def scores_of(bleu):
    scores = {"tokenized_bleu": bleu + 1, "bleu": bleu, "chrf": 60.0, "ter": 40.0}
    signatures = {f"{name}_signature": f"nrefs:1|{name}" for name in ("bleu", "chrf", "ter")}
    return {**scores, **signatures}


def record(loss, seed, bleu, tests=("test",)):
    """A run; its best checkpoint is a quarter of a point better."""
    return {
        "run": f"{loss.lower().replace(' ', '-')}-seed{seed}",
        "loss": loss,
        "seed": seed,
        "options": [],
        "command": ["bash", "scripts/train.sh", "made", loss, str(seed)],
        "device": "cpu",
        "gpus": 0,
        "updates": 1000,
        "minutes": 5.0 + seed,
        "valid_nll": 3.0,
        "valid_accuracy": 60.0,
        "scores": {
            test: {"averaged10": scores_of(bleu), "best": scores_of(bleu + 0.25)} for test in tests
        },
    }


def results_of(runs, folder=".", **changes):
    content = {
        "format": 3,
        "experiment": "made",
        "word": "made",
        "title": "Made up",
        "data": None,
        "corpus": "sha256:12",
        "source": "de",
        "target": "en",
        "tokenizer": "moses",
        "lowercased": True,
        "redistributable": True,
        "losses": ["CE", "EL", "EL 0.75"],
        "tests": list(runs[0]["scores"]),
        "checkpoints": ["averaged10", "best"],
        "published": {
            "source": "the paper's",
            "measure": "tokenized_bleu",
            "scores": {"CE": [35.09, 0.07], "EL": [35.5, 0.11]},
        },
        "options": [],
        "loss_options": {},
        "report_options": [],
        "p_values": {},
        "runs": runs,
        **changes,
    }
    return Results(folder, content)


def write_translations(results, bad=BAD, good=GOOD, references=REFERENCES):
    """Hypotheses and references of the runs: EL's good, CE's bad."""
    for one in results["runs"]:
        texts = {"hypotheses": bad if one["loss"] == "CE" else good, "references": references}
        for test in results["tests"]:
            for kind in results["checkpoints"]:
                where = results.folder / one["run"] / "evaluation" / f"{test}-{kind}"
                where.mkdir(parents=True)
                for name, lines in texts.items():
                    text = "".join(f"{line}\n" for line in lines)
                    (where / f"{name}.en").write_text(text, encoding="utf-8")


def write_experiment(folder, tiny, seeds, tests=("test",)):
    """A folder of finished runs of both losses, EL 2.5 BLEU ahead plus a tenth of the seed."""
    runs = []
    for loss, bleu, gain in (("CE", 10.0, 1), ("EL", 12.5, 1.1)):
        for seed in seeds:
            run, score = record(loss, seed, 0), bleu + gain * seed
            run["command"] = ["fairseq-train", "the data", "--seed", str(seed)]
            scores = {**scores_of(score), "chrf": 2 * score, "ter": 90 - score}
            runs.append({**run, "scores": {test: {KIND: scores} for test in tests}})
    results = results_of(
        runs,
        folder,
        **{"title": "A made-up language", "data": str(tiny.folder), "tokenizer": None},
        **{"lowercased": False, "losses": list(LOSSES), "checkpoints": [KIND]},
        options=["--arch", "transformer", "--dropout", "0.2"],
        loss_options=LOSSES,
        report_options=["--noise-sentences", "10", "--beam", "1", "--bootstrap", "10", "--cpu"],
    )
    references = (tiny.text / "test.en").read_text().splitlines()
    good = [line if i % 3 else f"{line} star" for i, line in enumerate(references)]
    bad = [" ".join(line.split()[::-1]) for line in references]
    bad[next(i for i, line in enumerate(references) if len(line.split()) > 6)] = AWKWARD
    write_translations(results, bad, good, references)
    for run in runs:
        evaluation = results.folder / run["run"] / "evaluation" / f"{results.test}-{KIND}"
        command = ["fairseq-generate", "the data", "--path", f"{run['run']}.pt"]
        (evaluation / "evaluation.json").write_text(json.dumps({"command": command}))
        shutil.copy(getattr(tiny, run["loss"].lower()), evaluation / "averaged.pt")
        with (results.folder / run["run"] / "train.log").open("w") as log:
            for epoch in (1, 2):
                numbers = {"nll_loss": 5 - epoch, "accuracy": 40 + epoch, "num_updates": 10 * epoch}
                for kind in ("train", "valid"):
                    logged = {f"{kind}_{key}": str(number) for key, number in numbers.items()}
                    logged = json.dumps({"epoch": epoch, **logged})
                    log.write(f"2026-01-01 00:00:00 | INFO | {kind} | {logged}\n")
    (folder / "results.json").write_text(json.dumps(results))
    return results
