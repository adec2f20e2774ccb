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
from ..runs.evaluation import evaluate
from ..runs.experiment import ROOT, option_value, read_experiment
from . import results as found

FAIRSEQ_SCRIPTS_BEAM = "5"
SIGNIFICANT = 6


def measure(experiment, folder, record, corpus):
    """What ``measures.json`` of a run holds; ``record`` is the run's in ``results.json``.

    ``folder``, with the runs, and ``corpus`` are paths.
    """
    where = folder / record["run"]
    tests = found.tests_of(experiment, corpus)
    kind = found.kinds_of_checkpoints(experiment)[0]
    options = experiment.evaluate_options
    own = option_value(options, "--beam", FAIRSEQ_SCRIPTS_BEAM)
    beams = {}
    for test in tests:
        greedy = evaluate(where, corpus, experiment.last, test, [*options, "--beam", "1"], "beam1")
        beams[test] = {
            "1": read_json(greedy / "scores.json", "delete it"),
            own: record["scores"][test][kind],
        }
    checkpoint = where / "checkpoints" / "checkpoint_best.pt"
    if experiment.last:
        checkpoint = where / "evaluation" / f"{tests[0]}-{kind}" / "averaged.pt"
    subset = read_corpus(corpus).subset_of(tests[0])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    paths = {record["run"]: [checkpoint]}
    calibration = of_checkpoints(paths, corpus / "bin", subset, device=device)[record["run"]]
    return {"beams": beams, "calibration": _rounded(calibration)}


def _rounded(value):
    """The same, with floats as exact as the arithmetic behind them is on every machine."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.{SIGNIFICANT}g}")


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
            measured = measure(experiment, folder, record, Path(results["data"]))
            write_json(folder / record["run"] / "measures.json", measured)
    found.gather(experiment, folder)
    print(f"All {len(results['runs'])} finished runs in {folder} are measured.")


if __name__ == "__main__":
    run(main)
