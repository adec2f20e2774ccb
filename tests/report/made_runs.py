"""A folder of finished runs as the scripts leave it, without the time they take."""

import json
import shutil

from made import record, results_of, scores_of, write_translations

LOSSES = {
    "CE": ["--criterion", "label_smoothed_cross_entropy"],
    "EL": ["--criterion", "encouraging_loss", "--log-end", "0.5"],
}
KIND = "averaged2"
AWKWARD = "<b>bold</b> & | pipe {name}"


def write_experiment(folder, tiny, seeds):
    """A folder of runs of both losses, EL 2.5 BLEU ahead plus a tenth of the seed."""
    runs = []
    for loss, bleu, gain in (("CE", 10.0, 1), ("EL", 12.5, 1.1)):
        for seed in seeds:
            run, score = record(loss, seed, 0), bleu + gain * seed
            run["command"] = ["fairseq-train", "the data", "--seed", str(seed)]
            scores = {**scores_of(score), "chrf": 2 * score, "ter": 90 - score}
            runs.append({**run, "scores": {"test": {KIND: scores}}})
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
        evaluation = results.folder / run["run"] / "evaluation" / f"test-{KIND}"
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
