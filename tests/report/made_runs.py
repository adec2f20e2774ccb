"""A folder of finished runs as the scripts leave it, without the time they take."""

import json
import shutil

LOSSES = {
    "CE": ["--criterion", "label_smoothed_cross_entropy"],
    "EL": ["--criterion", "encouraging_loss", "--log-end", "0.5"],
}

KIND = "averaged2"
AWKWARD = "<b>bold</b> & | pipe {name}"


def hypotheses_of(tiny):
    """Bad and good translations of the made-up test set, for CE and EL."""
    references = (tiny.text / "test.en").read_text().splitlines()
    good = [line if i % 3 else f"{line} star" for i, line in enumerate(references)]
    bad = [" ".join(line.split()[::-1]) for line in references]
    bad[next(i for i, line in enumerate(references) if len(line.split()) > 6)] = AWKWARD
    return {"CE": bad, "EL": good}


def write_run(folder, tiny, loss, seed, bleu):
    """A run's folder; returns its record."""
    name = f"{loss.lower()}-seed{seed}"
    evaluation = folder / name / "evaluation" / f"test-{KIND}"
    evaluation.mkdir(parents=True)
    for stem, lines in (
        ("hypotheses", hypotheses_of(tiny)[loss]),
        ("references", (tiny.text / "test.en").read_text().splitlines()),
    ):
        (evaluation / f"{stem}.en").write_text("".join(f"{line}\n" for line in lines))
    command = ["fairseq-generate", "the data", "--path", f"{name}.pt"]
    (evaluation / "evaluation.json").write_text(json.dumps({"command": command}))
    shutil.copy(getattr(tiny, loss.lower()), evaluation / "averaged.pt")
    lines = []
    for epoch in (1, 2):
        numbers = {"nll_loss": 5 - epoch, "accuracy": 40 + epoch, "num_updates": 10 * epoch}
        for kind in ("train", "valid"):
            record = {"epoch": epoch, **{f"{kind}_{key}": str(v) for key, v in numbers.items()}}
            lines.append(f"2026-01-01 00:00:00 | INFO | {kind} | {json.dumps(record)}\n")
    (folder / name / "train.log").write_text("".join(lines))
    scores = {"sentences": 43, "bleu": bleu, "chrf": 2 * bleu, "ter": 90 - bleu}
    scores.update({f"{score}_signature": f"{score}-signature" for score in ("bleu", "chrf", "ter")})
    options = ["--arch", "transformer", *LOSSES[loss]]
    return {
        "run": name,
        "loss": loss,
        "seed": seed,
        "options": [*options, "--dropout", "0.2", "--report-accuracy", "--seed", str(seed)],
        "command": ["fairseq-train", "the data", "--seed", str(seed)],
        "updates": 20,
        "minutes": 1.5,
        "valid_nll": 3.0,
        "valid_accuracy": 42.0,
        "scores": {"test": {KIND: scores}},
    }


def results_of(tiny, records):
    """``results.json`` of these records."""
    return {
        "format": 3,
        "experiment": "tiny",
        "word": "tiny",
        "title": "A made-up language",
        "data": str(tiny.folder),
        "corpus": "sha256:12",
        "redistributable": True,
        "losses": list(LOSSES),
        "source": "de",
        "target": "en",
        "tokenizer": None,
        "lowercased": False,
        "tests": ["test"],
        "checkpoints": [KIND],
        "published": {"source": "published", "measure": "bleu", "scores": {}},
        "options": ["--arch", "transformer", "--dropout", "0.2"],
        "report_options": [
            *("--noise-sentences", "10", "--beam", "1", "--bootstrap", "10", "--cpu"),
        ],
        "runs": records,
    }


def write_experiment(folder, tiny, seeds):
    """A folder of runs of both losses, EL 2.5 BLEU ahead plus a tenth of the seed."""
    records = [
        write_run(folder, tiny, loss, seed, bleu)
        for loss, bleu_of in (("CE", lambda s: 10.0 + s), ("EL", lambda s: 12.5 + 1.1 * s))
        for seed in seeds
        for bleu in [bleu_of(seed)]
    ]
    results = results_of(tiny, records)
    (folder / "results.json").write_text(json.dumps(results))
    return results
