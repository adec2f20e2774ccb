"""A folder of finished runs as the scripts leave it, without the time they take."""

import json
import shutil

from made import record, results_of, scores_of

LOSSES = {
    "CE": ["--criterion", "label_smoothed_cross_entropy"],
    "EL": ["--criterion", "encouraging_loss", "--log-end", "0.5"],
}
OPTIONS = ["--arch", "transformer", "--dropout", "0.2"]
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
    run = record(loss, seed, bleu)
    evaluation = folder / run["run"] / "evaluation" / f"test-{KIND}"
    evaluation.mkdir(parents=True)
    hypotheses = "".join(f"{line}\n" for line in hypotheses_of(tiny)[loss])
    (evaluation / "hypotheses.en").write_text(hypotheses)
    shutil.copy(tiny.text / "test.en", evaluation / "references.en")
    command = ["fairseq-generate", "the data", "--path", f"{run['run']}.pt"]
    (evaluation / "evaluation.json").write_text(json.dumps({"command": command}))
    shutil.copy(getattr(tiny, loss.lower()), evaluation / "averaged.pt")
    lines = []
    for epoch in (1, 2):
        numbers = {"nll_loss": 5 - epoch, "accuracy": 40 + epoch, "num_updates": 10 * epoch}
        for kind in ("train", "valid"):
            logged = {"epoch": epoch, **{f"{kind}_{key}": str(v) for key, v in numbers.items()}}
            lines.append(f"2026-01-01 00:00:00 | INFO | {kind} | {json.dumps(logged)}\n")
    (folder / run["run"] / "train.log").write_text("".join(lines))
    return {
        **run,
        "command": ["fairseq-train", "the data", "--seed", str(seed)],
        "scores": {"test": {KIND: {**scores_of(bleu), "chrf": 2 * bleu, "ter": 90 - bleu}}},
    }


def write_experiment(folder, tiny, seeds):
    """A folder of runs of both losses, EL 2.5 BLEU ahead plus a tenth of the seed."""
    results = results_of(
        [
            write_run(folder, tiny, loss, seed, bleu)
            for loss, bleu_of in (("CE", lambda s: 10.0 + s), ("EL", lambda s: 12.5 + 1.1 * s))
            for seed in seeds
            for bleu in [bleu_of(seed)]
        ],
        folder,
        **{"title": "A made-up language", "data": str(tiny.folder), "tokenizer": None},
        **{"lowercased": False, "losses": list(LOSSES), "checkpoints": [KIND], "options": OPTIONS},
        published={"source": "published", "measure": "bleu", "scores": {}},
        loss_options=LOSSES,
        report_options=["--noise-sentences", "10", "--beam", "1", "--bootstrap", "10", "--cpu"],
    )
    (folder / "results.json").write_text(json.dumps(results))
    return results
