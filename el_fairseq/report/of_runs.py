"""From finished runs to their report: analyse one run of each loss, then write the page.

Tells the runs' own test set from three other texts: the same with its words shuffled, fifty
everyday sentences, and those sentences in a language that the models do not know.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ..common.cli import UserError, run
from ..common.text import lines_of
from ..corpora.binarize import binarize
from ..corpora.subwords import Subwords
from ..experiments.results import flat_records, read

EVERYDAY = Path(__file__).parent / "everyday"
# A language for sentences that models of a source language do not know.
UNKNOWN = {"de": ("fr", "French"), "fr": ("de", "German"), "en": ("de", "German")}


def models_of(folder, records):
    """One evaluated checkpoint for each loss, by a short name: CE, EL, or EL 0.75."""
    log_ends = {record["log_end"] for record in records if record["criterion"] == "el"}
    models = {}
    for record in records:
        name = record["criterion"].upper()
        if name == "EL" and len(log_ends) > 1:
            name = f"EL {record['log_end']}"
        averaged = folder / record["run"] / "evaluation" / record["evaluation"] / "averaged.pt"
        best = folder / record["run"] / "checkpoints" / "checkpoint_best.pt"
        models.setdefault(name, averaged if averaged.exists() else best)
    return models


def subwords_of(data, manifest):
    """Path of a corpus's subword model."""
    name = "sentencepiece.model" if manifest["subwords"] == "sentencepiece" else "codes"
    return data / "bpe" / name


def other_texts(data, manifest, out):
    """Write the other texts as the corpus has its own.

    Returns:
        A dict of each set's name to its source file, target file and seed for shuffling (or
        None).
    """
    source, target = manifest["source"], manifest["target"]
    texts = {
        "shuffled words": (data / "text" / f"test.{source}", data / "text" / f"test.{target}", 1)
    }
    foreign, name = UNKNOWN.get(source, ("fr", "French"))
    for set_name, language in (
        ("everyday sentences", source),
        (f"everyday sentences in {name}", foreign),
    ):
        sides = [(EVERYDAY / f"{side}.txt", side) for side in (language, target)]
        if language != target and all(path.is_file() for path, _ in sides):
            files = [out / f"everyday-{side}.txt" for _, side in sides]
            for (path, side), file in zip(sides, files):
                lines = as_in_corpus(lines_of(path), manifest, side)
                file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            texts[set_name] = (*files, None)
    return texts


def as_in_corpus(lines, manifest, language):
    """Lines of plain text, tokenized and lowercased as the corpus is."""
    if manifest["tokenizer"] == "moses":
        from sacremoses import MosesTokenizer

        tokenizer = MosesTokenizer(lang=language)
        lines = [tokenizer.tokenize(line, return_str=True) for line in lines]
    return [line.lower() for line in lines] if manifest.get("lowercased") else lines


def analyze(folder, records, options):
    """Run the analysis of the runs into ``folder/analysis``."""
    data = shown(records[0]["data"])
    try:
        manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no {data / 'manifest.json'}: prepare the corpus first") from None
    subwords = subwords_of(data, manifest)
    out = folder / "analysis"
    out.mkdir(exist_ok=True)
    words = [str(data / "bin"), "--subset", records[0]["subset"], "--out", str(out)]
    for name, path in models_of(folder, records).items():
        words += ["--model", f"{name}={path}"]
    for name, (source, target, seed) in other_texts(data, manifest, out).items():
        other = out / name.replace(" ", "-")
        if not other.exists():
            binarize(data / "bin", Subwords(subwords), source, target, other, shuffle_seed=seed)
        words += ["--ood", f"{name}={other}:test"]
    command = [sys.executable, "-m", "el_fairseq.analysis", *words, "--subwords", str(subwords)]
    if subprocess.run([*command, *options]).returncode:
        raise UserError("the analysis failed, the reason stands above; run this again")


def shown(path):
    """Path from the working folder where it is below it, for commands that are short to read."""
    path = Path(path).resolve()
    here = Path.cwd()
    return path.relative_to(here) if here in path.parents else path


def main():
    parser = argparse.ArgumentParser(prog="python -m el_fairseq.report.of_runs")
    parser.add_argument("folder", type=Path, help="holds results.json, and the runs")
    parser.usage = "%(prog)s FOLDER [-- options of python -m el_fairseq.analysis]"
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    folder = shown(parser.parse_args(sys.argv[1:end]).folder)
    results, analysis = folder / "results.json", folder / "analysis" / "analysis.json"
    found = read(folder)
    # What was analysed before the results were written was of other runs.
    if not analysis.exists() or analysis.stat().st_mtime < results.stat().st_mtime:
        analyze(folder, flat_records(found), [*found["report_options"], *sys.argv[end + 1 :]])
    subprocess.run([sys.executable, "-m", "el_fairseq.report", str(folder)], check=True)


if __name__ == "__main__":
    run(main)
