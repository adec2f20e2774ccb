"""Hypotheses to scores: all of a test set or nothing, by sacreBLEU, signatures kept."""

import argparse
import re
from pathlib import Path

import sacrebleu

from ..common.cli import UserError, run
from ..common.files import writing
from ..common.state import write_json
from ..corpora import manifest

METRICS = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF, "ter": sacrebleu.TER}


def hypotheses(generated, count):
    """The translations in what fairseq-generate wrote, in the order of the test set.

    Args:
        generated: path of ``generate-SUBSET.txt``.
        count: how many sentences the test set holds.

    Raises:
        UserError: not one translation for each sentence; the message names the missing ones.
    """
    found = {}
    with Path(generated).open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if line.startswith("H-"):
                number, _, text = line.rstrip("\n").split("\t", 2)
                found[int(number[2:])] = text
    missing = sorted(set(range(count)) - set(found))
    if missing or len(found) != count:
        some = ", ".join(str(number) for number in missing[:10]) + (", ..." * (len(missing) > 10))
        raise UserError(
            f"{generated} holds {len(found)} translations for {count} references"
            + (f"; sentences (counted from 0) {some} are missing" if missing else "")
            + "; a part is not scored: translate again with --required-batch-size-multiple 1"
        )
    return [found[number] for number in range(count)]


def tokenized_bleu(generated):
    """BLEU that fairseq-generate printed at the end: on tokenized text, for the literature's sake.

    ``None`` where there is none.
    """
    found = re.findall(r"^Generate .* BLEU4 = ([\d.]+),", Path(generated).read_text("utf-8"), re.M)
    return float(found[-1]) if found else None


def scores(hypothesis_lines, reference_lines):
    """BLEU, chrF and TER (percent) of detokenized lines, each with its sacreBLEU signature."""
    result = {}
    for name, metric in ((name, make()) for name, make in METRICS.items()):
        score = metric.corpus_score(hypothesis_lines, [reference_lines])
        result[name] = round(score.score, 2)
        result[f"{name}_signature"] = str(metric.get_signature())
    return result


def score(folder, corpus, test):
    """Score a test set as fairseq-generate translated it into a folder.

    Writes ``hypotheses.LANGUAGE`` and ``references.LANGUAGE`` (plain text), ``scores.json`` and
    ``scores.txt`` there. ``corpus`` is a :class:`el_fairseq.corpora.manifest.Corpus`.

    Raises:
        UserError: there is not one translation for each sentence, or a file is damaged.
    """
    references = corpus.references(test)
    generated = folder / f"generate-{corpus.subset_of(test)}.txt"
    translations = corpus.detokenize(hypotheses(generated, len(references)))
    for name, text in (("hypotheses", translations), ("references", references)):
        with writing(folder / f"{name}.{corpus.target}") as file:
            file.writelines(line + "\n" for line in text)
    result = {
        "subset": test,
        "sentences": len(references),
        **scores(translations, references),
        "tokenized_bleu": tokenized_bleu(generated),
    }
    write_json(folder / "scores.json", result)
    with writing(folder / "scores.txt") as file:
        file.write(
            f"BLEU {result['bleu']:.2f}  {result['bleu_signature']}\n"
            f"chrF {result['chrf']:.2f}  {result['chrf_signature']}\n"
            f"TER  {result['ter']:.2f}  {result['ter_signature']}\n"
            f"{result['sentences']} sentences; fairseq's BLEU on tokenized text: "
            f"{result['tokenized_bleu']}\n"
        )


def main():
    parser = argparse.ArgumentParser(prog="python -m el_fairseq.runs.scoring", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds generate-SUBSET.txt; gets the scores")
    parser.add_argument("--data", type=Path, required=True, help="the corpus, with its manifest")
    parser.add_argument("--subset", default="test", help="name of the test set (%(default)s)")
    arguments = parser.parse_args()
    score(arguments.folder, manifest.read(arguments.data), arguments.subset)


if __name__ == "__main__":
    run(main)
