"""Translations of several runs side by side: source, reference, and what each run said."""

import argparse
import json
from pathlib import Path

from ..common.cli import run
from ..common.text import lines_of

FEWEST_WORDS = 6


def spread(sentences, count):
    """Indices of ``count`` sentences of some length, evenly spread over the test set."""
    long_enough = [i for i, text in enumerate(sentences) if len(text.split()) >= FEWEST_WORDS]
    step = max(len(long_enough) / count, 1)
    return [long_enough[int(i * step)] for i in range(min(count, len(long_enough)))]


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.report.side_by_side", description=__doc__
    )
    parser.add_argument("results", type=Path, help="results.json; the runs stand beside it")
    parser.add_argument("--data", type=Path, required=True, help="corpus, with manifest and text/")
    parser.add_argument("--evaluation", required=True, help="folder in RUN/evaluation")
    parser.add_argument("--count", type=int, default=10)
    arguments = parser.parse_args()
    manifest = json.loads((arguments.data / "manifest.json").read_text(encoding="utf-8"))
    source, target = manifest["source"], manifest["target"]
    texts = {
        "source": lines_of(arguments.data / "text" / f"test.{source}"),
        "reference": lines_of(arguments.data / "text" / f"test.{target}"),
    }
    for record in json.loads(arguments.results.read_text(encoding="utf-8")):
        folder = arguments.results.parent / record["run"] / "evaluation" / arguments.evaluation
        texts[record["criterion"].upper()] = lines_of(folder / f"hypotheses.{target}")
    for number in spread(texts["source"], arguments.count):
        for name, lines in texts.items():
            print(f"{name:>9}  {lines[number]}")
        print()


if __name__ == "__main__":
    run(main)
