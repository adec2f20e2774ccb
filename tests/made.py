"""Results of made-up runs, as ``results.gather`` leaves them."""

from el_fairseq.experiments.results import Results

REFERENCES = [f"the cat number {n} sat on mat {n % 7} of the house" for n in range(200)]
GOOD = [line if n % 4 else line.replace("cat", "dog") for n, line in enumerate(REFERENCES)]
BAD = [line.replace("sat on", "stood at") if n % 3 else line for n, line in enumerate(REFERENCES)]

EXPERIMENT = """
title = "Small"
corpus.command = "none"
train.options = "--lr 1"
evaluate.last = 10
evaluate.best = true
"""


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
