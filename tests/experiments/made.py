"""Results of made-up runs, as ``results.gather`` leaves them."""

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


def record(criterion, seed, bleu, log_end=0.5, tests=("test",)):
    """A run; its best checkpoint is a quarter of a point better."""
    log_end = None if criterion == "ce" else log_end
    return {
        "run": f"ce-seed{seed}" if criterion == "ce" else f"el{log_end}-seed{seed}",
        "criterion": criterion,
        "log_end": log_end,
        "loss": "CE" if criterion == "ce" else f"EL, log end {log_end}",
        "seed": seed,
        "options": [],
        "updates": 1000,
        "minutes": 5.0 + seed,
        "valid_nll": 3.0,
        "valid_accuracy": 60.0,
        "scores": {
            test: {"averaged10": scores_of(bleu), "best": scores_of(bleu + 0.25)} for test in tests
        },
    }


def results_of(runs, **changes):
    return {
        "experiment": "made",
        "word": "made",
        "title": "Made up",
        "data": None,
        "source": "de",
        "target": "en",
        "tokenizer": "moses",
        "lowercased": True,
        "tests": list(runs[0]["scores"]),
        "checkpoints": ["averaged10", "best"],
        "published": {
            "source": "the paper's",
            "measure": "tokenized_bleu",
            "scores": {"CE": [35.09, 0.07], "EL, log end 0.5": [35.5, 0.11]},
        },
        "options": [],
        "report_options": [],
        "runs": runs,
        **changes,
    }


def write_translations(folder, results):
    """Hypotheses and references of the runs: EL's good, CE's bad."""
    for one in results["runs"]:
        for test in results["tests"]:
            for kind in results["checkpoints"]:
                where = folder / one["run"] / "evaluation" / f"{test}-{kind}"
                where.mkdir(parents=True)
                for name, lines in (
                    ("hypotheses", BAD if one["criterion"] == "ce" else GOOD),
                    ("references", REFERENCES),
                ):
                    text = "".join(f"{line}\n" for line in lines)
                    (where / f"{name}.en").write_text(text, encoding="utf-8")
