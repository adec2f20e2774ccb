"""Measures search and calibration of all finished runs of an experiment.

Scores of a beam of 1 separate the effect of search from that of the model; calibration is that on
the compared test set, before and after scaling by the temperature that fits the validation set; and
the test sets are scored once more, decoded at that temperature. RUN/measures.json holds all of it;
measured runs are skipped. scripts/table.sh and scripts/report.sh show it.
"""

import logging
from pathlib import Path

import torch

from ..analysis.calibration import of_checkpoint
from ..common import processes
from ..common.cli import run
from ..common.files import write_json
from .config import parser_of, read_experiment
from .evaluate import OPTIONS, evaluate, scores_in
from .options import check_decoding
from .results import collect, gather


def measure(results, record, experiment):
    """What ``measures.json`` of a run holds, by its record in the results."""
    corpus, where = results.corpus, results.folder / record["run"]
    tests, kind, options = results["tests"], results.kind, experiment.evaluate.options

    def scores(name, *more):
        last, words = experiment.evaluate.last, [*options, *more]
        outs = [evaluate(where, last, test, corpus.folder, words, name) for test in tests]
        return dict(zip(tests, map(scores_in, outs)))

    own = str(check_decoding([*OPTIONS, *options]).beam)
    beams = {test: {own: record["scores"][test][kind]} for test in tests}
    if own != "1":
        for test, greedy in scores("beam1", "--beam", "1").items():
            beams[test]["1"] = greedy
    device = "cuda" if torch.cuda.is_available() else "cpu"
    subset = ",".join(corpus.subsets_of(tests[0]))
    calibration = of_checkpoint(results.checkpoint(record["run"]), corpus.bin, subset, device)
    tempered = scores("tempered", "--temperature", f"{calibration['temperature']:.3f}")
    return {"checkpoints": kind, "beams": beams, "calibration": calibration, "tempered": tempered}


def main():
    parser = parser_of("measure", __doc__)
    runs = "the folder of its runs (runs/EXPERIMENT)"
    parser.add_argument("--runs", type=Path, metavar="DIR", help=runs)
    options = parser.parse_args()
    experiment = read_experiment(options.experiment)
    folder = options.runs or experiment.folder
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    results = collect(experiment, folder)
    for record in results["runs"]:
        if "tempered" not in record:
            print(f"{record['run']}: measuring")
            measured = measure(results, record, experiment)
            write_json(folder / record["run"] / "measures.json", measured)
    gather(experiment, folder)
    print(f"All {len(results['runs'])} finished runs in {folder} are measured.")


if __name__ == "__main__":
    run(lambda: processes.supervise(main))
