"""From finished runs to their analysis: one run of each loss.

Tells the runs' own test set from three other texts: the same with its words shuffled, fifty
everyday sentences, and those sentences in a language that the models do not know.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from ..common import processes
from ..common.cli import UserError
from ..common.paths import ROOT, shown
from ..common.state import read_json, write_json
from ..common.text import lines_of
from ..corpora import manifest
from ..corpora.sources import checksum
from ..corpora.subwords import Subwords
from ..experiments.results import compared_checkpoint

# In the folder of the analysis: the command and the contents that it was made of.
MADE_OF = "made-of.json"
# Of analysis.json: an analysis of another form is made again.
FORMAT = 2
EVERYDAY = Path(__file__).parent / "everyday"
# A language for sentences that models of a source language do not know.
UNKNOWN = {"de": ("fr", "French"), "fr": ("de", "German"), "en": ("de", "German")}


def models_of(folder, results):
    """The compared checkpoint of one run of each loss, by the loss's name without punctuation."""
    models = {}
    for record in results["runs"]:
        name = re.sub(r"[^\w.+-]+", " ", record["loss"]).strip()
        models.setdefault(name, compared_checkpoint(folder, results, record["run"]))
    for name, path in models.items():
        if not path.is_file():
            raise UserError(
                f"there is no {path}, the checkpoint of {name} that the report looks at: delete "
                f"{path.parent} and evaluate that run again (scripts/evaluate.sh)"
            )
    return models


def other_texts(corpus, test):
    """The other texts as the corpus has its own.

    Returns:
        A dict of each set's name to its source lines, target lines and seed for shuffling (or
        None).
    """
    own = [
        [line for one in corpus.subsets_of(test) for line in lines_of(corpus.text(one, side))]
        for side in (corpus.source, corpus.target)
    ]
    texts = {"shuffled words": (*own, 1)}
    foreign, name = UNKNOWN.get(corpus.source, ("fr", "French"))
    for set_name, language in (
        ("everyday sentences", corpus.source),
        (f"everyday sentences in {name}", foreign),
    ):
        paths = [EVERYDAY / f"{side}.txt" for side in (language, corpus.target)]
        if language != corpus.target and all(path.is_file() for path in paths):
            sides = (
                corpus.as_in_corpus(lines_of(path), side)
                for path, side in zip(paths, (language, corpus.target))
            )
            texts[set_name] = (*sides, None)
    return texts


def analyse(folder, results, options):
    """Run the analysis of the runs into ``folder/analysis``, unless it is there already.

    It is there when it was made by the same command from the same checkpoints and data: the
    contents decide, not times.
    """
    from ..analysis.__main__ import check_given  # imports fairseq: seconds

    check_given(options)
    corpus = manifest.read(results["data"])
    test = results["tests"][0]
    out = folder / "analysis"
    subset = ",".join(corpus.subsets_of(test))
    words = [shown(corpus.bin), "--subset", subset, "--out", shown(out)]
    models = models_of(folder, results)
    for name, path in models.items():
        words += ["--model", f"{name}={shown(path)}"]
    inputs = [*models.values(), *sorted(corpus.bin.glob("*.bin"))]
    texts = {}
    if corpus.subword_model:
        inputs.append(corpus.subword_model)
        texts = other_texts(corpus, test)
        for name in texts:
            words += ["--ood", f"{name}={shown(out / name.replace(' ', '-'))}:test"]
        words += ["--subwords", shown(corpus.subword_model)]
    words += options
    made_of = {
        "format": FORMAT,
        "command": words,
        "sha256": {shown(path): checksum(path, "sha256") for path in inputs},
    }
    if (out / "analysis.json").is_file() and _made_of(out) == made_of:
        return
    out.mkdir(exist_ok=True)
    (out / MADE_OF).unlink(missing_ok=True)
    for name, (source, target, seed) in texts.items():
        _binarize(corpus, source, target, out / name.replace(" ", "-"), seed)
    command = [sys.executable, "-m", "el_fairseq.analysis", *words]
    if processes.call(command, cwd=ROOT):
        raise UserError("the analysis failed, the reason stands above; run this again")
    write_json(out / MADE_OF, made_of)


def _made_of(out):
    try:
        return read_json(out / MADE_OF, "")
    except UserError:  # none, or one that was cut: the analysis is made again
        return None


def _binarize(corpus, source, target, out, seed):
    from ..corpora.binarize import binarize  # imports fairseq: seconds

    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, side) for side in ("source", "target")]
        for path, lines in zip(files, (source, target)):
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        pair = corpus.source, corpus.target
        binarize(
            corpus.bin,
            Subwords(corpus.subword_model),
            *files,
            out,
            shuffle_seed=seed,
            languages=pair,
        )
