"""Subwords by SentencePiece: one joint model for both sides of a corpus."""

import argparse
import json
from pathlib import Path

import sentencepiece

from ..common.cli import UserError, run
from ..common.files import writing

SPLITS = ("train", "valid", "test")


def learn(files, model, pieces):
    """Learn a BPE model of ``pieces`` pieces from text files; write ``model`` and its ``.vocab``.

    Every character is covered and text is not normalised, so that decoding gives the text back.

    Raises:
        UserError: the text has too few words, or too many characters, for so many pieces.
    """
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=[str(file) for file in files],
            model_prefix=str(Path(model).with_suffix("")),
            model_type="bpe",
            vocab_size=pieces,
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=1,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise UserError(f"--pieces is {pieces}, which does not suit the text: {reason}") from None


def encode(model, source, target):
    """Write the pieces of each line of the file ``source``, space-separated, to ``target``."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    with Path(source).open(encoding="utf-8", newline="\n") as lines, writing(target) as file:
        for line in lines:
            file.write(" ".join(processor.encode(line.rstrip("\n"), out_type=str)) + "\n")


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.corpora.subwords", description=__doc__
    )
    parser.add_argument("corpus", type=Path, help="folder with manifest.json and text/; gets bpe/")
    parser.add_argument("--pieces", type=int, required=True, help="size of the joint vocabulary")
    arguments = parser.parse_args()
    corpus = arguments.corpus
    manifest = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
    languages = manifest["source"], manifest["target"]
    (corpus / "bpe").mkdir(exist_ok=True)
    model = corpus / "bpe" / "sentencepiece.model"
    learn([corpus / "text" / f"train.{side}" for side in languages], model, arguments.pieces)
    for split in SPLITS:
        for side in languages:
            name = f"{split}.{side}"
            encode(model, corpus / "text" / name, corpus / "bpe" / name)
    manifest["pieces"] = arguments.pieces
    with writing(corpus / "manifest.json") as file:
        json.dump(manifest, file, indent=2, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    run(main)
