"""Translates the test sets with a trained run, and scores all of each.

Averages the last N epoch checkpoints, runs fairseq-generate with beam 5, and has sacreBLEU score
the detokenized output. RUN/evaluation/TEST-averagedN (or TEST-best, and -NAME) holds the texts,
scores.json, and evaluation.json (what was evaluated); of a single test set also what
fairseq-generate wrote: several that are scored together are put together from theirs. Called again
with the same options, it shows the scores that are there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from ..common import processes
from ..common.cli import UserError, command_line, matching, parse, run, whole_number
from ..common.files import lines_of, locked, making, read_json, write_json, writing
from ..common.paths import ROOT, shown, usable
from ..corpora import manifest
from ..corpora.languages import sacrebleu_tokenizer
from ..safe_load import load
from . import scores
from .checkpoints import average_last
from .options import check_decoding
from .train import check_same, failure, identity_of_corpus, read_run

OPTIONS = ["--beam", "5", "--batch-size", "128"]


def evaluate(folder, last, test, data=None, options=(), name=None, gpus=()):
    """Translate and score a test set with the finished run in a folder, unless that is done.

    Args:
        last: how many epoch checkpoints to average; 0: take ``checkpoint_best.pt``.
        test: name of a test set of the corpus, ``"all"`` where it has that, or ``"valid"``.
        data: the corpus's folder; ``None``: the one that the run was trained on.
        options: more options for fairseq-generate, some of :data:`~.options.DECODING`.
        name: an addition to the name of the folder with the scores, which is returned:
            ``evaluation/TEST-averagedN`` or ``TEST-best`` in the run's.
        gpus: as in CUDA_VISIBLE_DEVICES; the first translates. Without any, what is visible.
    """
    corpus, record = corpus_of(folder, data)
    options = list(options)
    check_decoding(options)
    sacrebleu_tokenizer(corpus.target)
    subsets = corpus.subsets_of(test)
    advice = "the run's train.sh command resumes it, once a damaged training.json is deleted"
    training = read_json(folder / "training.json", f"training is not finished; {advice}")
    kind = f"averaged{last}" if last else "best"
    out = usable(folder / "evaluation") / "-".join(filter(None, [test, kind, name]))
    words = ["--data", shown(corpus.folder)] if shown(corpus.folder) != record["data"] else []
    words += ["--name", name] if name else []
    wanted = {
        "test": test,
        "checkpoints": kind,
        "corpus": {
            "trained": identity_of_corpus(corpus.bin),
            "tests": [identity_of_corpus(corpus.bin, [f"{subset}.*"]) for subset in subsets],
        },
        "options": options,
        "training": training,
        "command": command(folder, last, test, options, words),
    }
    parts = []
    if len(subsets) > 1:
        parts = [evaluate(folder, last, one, data, options, name, gpus) for one in corpus.tests]
    if (out / "evaluation.json").exists():
        before = read_json(out / "evaluation.json", f"delete {out} to evaluate again")
        advice = "give a --name to have these beside them, or delete that folder"
        check_same(before, wanted, ("corpus", "options"), f"{out} holds scores", advice)
        if {**before, "command": None} == {**wanted, "command": None}:
            return out
    out.parent.mkdir(exist_ok=True)
    with locked(folder / "lock", f"{folder} is being evaluated") as lock:
        shutil.rmtree(out, ignore_errors=True)
        with making(out) as unfinished:
            references, generated = corpus.plain(test, corpus.target), None
            if parts:
                texts = [part / f"hypotheses.{corpus.target}" for part in parts]
                hypotheses = [line for text in texts for line in lines_of(text)]
                (unfinished / "averaged.pt").symlink_to(f"../{parts[0].name}/averaged.pt")
            else:
                checkpoint = folder.absolute() / "checkpoints" / "checkpoint_best.pt"
                if last:
                    checkpoint = unfinished / "averaged.pt"
                    average_last(folder / "checkpoints", last, checkpoint)
                _check_fits(checkpoint, corpus, record)
                print(f"{folder.name:12} translating {test} with {kind}")
                visible = {"CUDA_VISIBLE_DEVICES": gpus[0]} if gpus else {}
                how = {"stdin": lock, "env": {**os.environ, **visible}}
                _translate(folder, unfinished, checkpoint, corpus, subsets[0], options, **how)
                generated = unfinished / f"generate-{subsets[0]}.txt"
                translated = scores.hypotheses(generated, len(references))
                hypotheses = corpus.detokenize(translated, corpus.target)
            _score(unfinished, corpus, test, hypotheses, references, generated)
            write_json(unfinished / "evaluation.json", wanted)
    return out


def scores_in(out):
    """The scores in a folder that :func:`evaluate` made."""
    return read_json(out / "scores.json", f"delete {out} to evaluate again")


def corpus_of(folder, data=None):
    """The corpus that a run is evaluated on, and the run's record."""
    record = read_run(folder)
    return manifest.read(usable(data or ROOT / record["data"])), record


def command(folder, last, test=None, options=(), more=()):
    """What a user types in the repository's folder to have these scores."""
    words = ["bash", "scripts/evaluate.sh", shown(folder), *(["--subset", test] if test else [])]
    words += ["--last", str(last)] if last else ["--best"]
    return [*words, *more, *(["--", *options] if options else [])]


def _check_fits(checkpoint, corpus, record):
    """Raise :class:`UserError` where a model does not know a corpus's languages or subwords."""
    task, trained = load(checkpoint)["cfg"]["task"], ROOT / record["data"] / "bin"
    pair = task["source_lang"], task["target_lang"]
    if pair != (corpus.source, corpus.target):
        raise UserError(
            f"{corpus.folder} is {corpus.source}-{corpus.target}, and the run was trained to "
            f"translate {'-'.join(pair)}: name a corpus of that direction by --data"
        )
    dictionaries = [f"dict.{language}.txt" for language in pair]
    if identity_of_corpus(corpus.bin) != record["corpus"] and (
        not trained.is_dir()
        or identity_of_corpus(corpus.bin, dictionaries) != identity_of_corpus(trained, dictionaries)
    ):
        raise UserError(
            f"{corpus.folder} does not have the dictionaries that the run was trained with, those "
            f"of {shown(trained)}: name that corpus by --data, or one with the same subwords"
        )


def _score(folder, corpus, test, hypotheses, references, generated):
    for name, text in (("hypotheses", hypotheses), ("references", references)):
        with writing(folder / f"{name}.{corpus.target}") as file:
            file.writelines(line + "\n" for line in text)
    translation = scores.Translation(
        corpus.plain(test, corpus.source), hypotheses, references, corpus.target, generated
    )
    write_json(folder / "scores.json", {"test": test, **scores.scores(translation)})


def _translate(run, folder, checkpoint, corpus, subset, options, **how):
    words = [sys.executable, "-m", "fairseq_cli.generate", str(corpus.bin)]
    words += ["--user-dir", str(Path(__file__).parents[1]), "--path", str(checkpoint)]
    words += ["--source-lang", corpus.source, "--target-lang", corpus.target]
    words += ["--gen-subset", subset, *OPTIONS]
    # The model alone says how long a sentence may be.
    for side in ("source", "target"):
        words += [f"--max-{side}-positions", str(sys.maxsize)]
    words += ["--remove-bpe", corpus.remove_bpe] if corpus.remove_bpe else []
    words += ["--required-batch-size-multiple", "1", "--num-workers", "0"]
    words += ["--results-path", str(folder)]
    words += [*([] if torch.cuda.is_available() else ["--cpu"]), *options]
    log = run / "generate.log"
    with log.open("w") as output:
        status = processes.call(words, stdout=output, stderr=subprocess.STDOUT, **how)
    if status:
        raise failure("fairseq-generate", log, status)


def main():
    usage = "RUN [options] [-- fairseq-generate options]"
    parser = command_line("bash scripts/evaluate.sh", __doc__, usage)
    add, kind = parser.add_argument, parser.add_mutually_exclusive_group()
    name = matching(r"[\w.-]+", "letters, digits, '.', '_' and '-'")
    add("run", type=Path, help="the run's folder, as scripts/train.sh made it")
    add("--data", type=Path, metavar="DIR", help="the corpus (the one the run was trained on)")
    last = {"type": whole_number(1), "default": 3, "metavar": "N"}
    kind.add_argument("--last", **last, help="checkpoints to average (3)")
    best = {"dest": "last", "action": "store_const", "const": 0}
    kind.add_argument("--best", **best, help="checkpoint_best.pt instead")
    add("--subset", metavar="TEST", help="a test set of the corpus, or valid (every test set)")
    add("--name", type=name, help="an addition to the name of the folder with the scores")
    arguments, theirs = parse(parser)
    folder, data = arguments.run, arguments.data
    corpus, _ = corpus_of(folder, data)
    for test in [arguments.subset] if arguments.subset else corpus.scored:
        out = evaluate(folder, arguments.last, test, data, theirs, arguments.name)
        print(f"{folder.name}, {out.name}:")
        print("\n".join(scores.shown(scores_in(out))))


if __name__ == "__main__":
    run(lambda: processes.supervise(main))
