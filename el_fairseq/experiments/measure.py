"""What scores leave out, for the finished runs of an experiment: BLEU by beam, and calibration.

``RUN/measures.json`` gets ``beams``, the scores of each test set by beam size: 1, and the
experiment's; and ``calibration``, that of :func:`~el_fairseq.analysis.temperature.of_checkpoints`
on the first test set. ``results.json`` takes both in.
"""

import argparse
from pathlib import Path

import torch

from ..analysis.temperature import of_checkpoints
from ..common import processes
from ..common.cli import run
from ..common.state import read_json, write_json
from ..corpora.manifest import read as read_corpus
from ..runs.evaluation import OPTIONS, evaluate
from ..runs.experiment import ROOT, option_value, read_experiment
from . import results as found


def measure(folder, results, record, experiment):
    """What ``measures.json`` of a run holds, by its record in the ``results.json`` of a folder."""
    corpus, kind = Path(results["data"]), results["checkpoints"][0]
    options = experiment.evaluate_options
    own = option_value([*OPTIONS, *options], "--beam", None)
    beams = {test: {own: record["scores"][test][kind]} for test in results["tests"]}
    for test in results["tests"] if own != "1" else ():
        where, greedy = folder / record["run"], [*options, "--beam", "1"]
        made = evaluate(where, corpus, experiment.last, test, greedy, "beam1")
        advice = f"delete {made}, and run scripts/measure.sh again"
        beams[test]["1"] = read_json(made / "scores.json", advice)
    subset = ",".join(read_corpus(corpus).subsets_of(results["tests"][0]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    paths = {record["run"]: [found.compared_checkpoint(folder, results, record["run"])]}
    calibration = of_checkpoints(paths, corpus / "bin", subset, device=device)
    return {"beams": beams, "calibration": calibration[record["run"]]}


def main():
    parser = argparse.ArgumentParser(prog="bash scripts/measure.sh", allow_abbrev=False)
    parser.add_argument("experiment", help="its name or file")
    parser.add_argument("--runs", type=Path)
    options = parser.parse_args()
    processes.exit_on_signals()
    experiment = read_experiment(options.experiment)
    folder = options.runs or ROOT / "runs" / experiment.name
    results = found.gather(experiment, folder)
    for record in results["runs"]:
        if "calibration" not in record:
            print(f"{record['run']}: measuring", flush=True)
            measured = measure(folder, results, record, experiment)
            write_json(folder / record["run"] / "measures.json", measured)
    found.gather(experiment, folder)
    print(f"All {len(results['runs'])} finished runs in {folder} are measured.")


if __name__ == "__main__":
    run(main)
