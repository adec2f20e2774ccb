"""From finished runs to their analysis: one run of each loss.

Compares the test set with three other texts: the same with its words shuffled, fifty
everyday sentences, and those sentences in a language that the models do not know.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ..analysis.__main__ import parser
from ..common import processes
from ..common.cli import UserError
from ..common.files import lines_of, writing
from ..common.paths import ROOT, shown
from ..corpora.binarize import binarize, shuffled
from ..corpora.sources import checksum
from ..corpora.subwords import Subwords

# In the folder of the analysis: the command and the contents that it was made of.
MADE_OF = "made-of.json"
# Of analysis.json: an analysis of another form is made again.
FORMAT = 5
EVERYDAY = Path(__file__).parent / "everyday"
# A language for sentences that models of a source language do not know.
UNKNOWN = {"de": ("fr", "French"), "fr": ("de", "German"), "en": ("de", "German")}


def models_of(results):
    """The compared checkpoint of one run of each loss, by the loss's name without punctuation."""
    models = {}
    for record in results["runs"]:
        name = re.sub(r"[^\w.+-]+", " ", record["loss"]).strip()
        path = models.setdefault(name, results.checkpoint(record["run"]))
        if not path.is_file():
            raise UserError(
                f"there is no {path}, the checkpoint of {name} that the report looks at: delete "
                f"{path.parent} and evaluate that run again (scripts/evaluate.sh)"
            )
    return models


def other_texts(corpus, test):
    """The other texts in the form of the corpus: source lines and target lines by name."""
    source, target = (
        [line for one in corpus.subsets_of(test) for line in lines_of(corpus.text(one, side))]
        for side in (corpus.source, corpus.target)
    )
    texts = {"shuffled words": (shuffled(source, 1), target)}
    foreign, name = UNKNOWN.get(corpus.source, ("fr", "French"))
    everyday = {"everyday sentences": corpus.source, f"everyday sentences in {name}": foreign}
    for name, language in everyday.items():
        paths = {side: EVERYDAY / f"{side}.txt" for side in (language, corpus.target)}
        if len(paths) == 2 and all(path.is_file() for path in paths.values()):
            texts[name] = [
                corpus.as_in_corpus(lines_of(path), side) for side, path in paths.items()
            ]
    return texts


def analyse(results, options):
    """Run the analysis of the runs into ``analysis`` in their folder, unless it is there already.

    It is there when it was made by the same command from the same checkpoints and data,
    compared by checksum, not by time.
    """
    parser(of_report=True).parse_args(options)  # refuses others
    corpus = results.corpus
    test, out, models = results.test, results.folder / "analysis", models_of(results)
    arguments = [shown(corpus.bin), "--subset", ",".join(corpus.subsets_of(test))]
    arguments += ["--out", shown(out)]
    for name, path in models.items():
        arguments += ["--model", f"{name}={shown(path)}"]
    inputs = [*models.values(), *sorted(corpus.bin.glob("*.bin"))]
    texts = other_texts(corpus, test) if corpus.subword_model else {}
    folders = {name: out / name.replace(" ", "-") for name in texts}
    for name, where in folders.items():
        arguments += ["--ood", f"{name}={shown(where)}:test"]
    if corpus.subword_model:
        inputs.append(corpus.subword_model)
        arguments += ["--subwords", shown(corpus.subword_model)]
    arguments += options
    sums = {shown(path): checksum(path, "sha256") for path in inputs}
    made_of = json.dumps({"format": FORMAT, "command": arguments, "sha256": sums}, indent=2)
    record = out / MADE_OF
    if (out / "analysis.json").is_file() and record.is_file() and record.read_text() == made_of:
        return
    out.mkdir(exist_ok=True)
    record.unlink(missing_ok=True)
    pair = corpus.source, corpus.target
    subwords = Subwords(corpus.subword_model) if texts else None
    for name, sides in texts.items():
        text = [(f"{name}.{side}", lines) for side, lines in zip(pair, sides)]
        shutil.rmtree(folders[name], ignore_errors=True)
        binarize(corpus.bin, subwords, text, folders[name], languages=pair)
    command = [sys.executable, "-m", "el_fairseq.analysis", *arguments]
    if processes.call(command, cwd=ROOT, stdout=subprocess.DEVNULL):  # the page has its tables
        raise UserError("the analysis failed, see the error above; then run this again")
    with writing(record) as file:
        file.write(made_of)
