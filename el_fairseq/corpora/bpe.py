"""Subwords by subword-nmt: one joint list of merges for both sides of a corpus."""

import argparse
import json
import tempfile
from pathlib import Path

from subword_nmt import apply_bpe, learn_bpe

from ..common.cli import run
from ..common.files import writing

SPLITS = ("train", "valid", "test")


def learn(files, codes, merges):
    """Learn ``merges`` merges from the text files together and write them to ``codes``."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as joined:
        for name in files:
            with Path(name).open(encoding="utf-8", newline="\n") as file:
                joined.writelines(file)
        joined.seek(0)
        with writing(codes) as file:
            learn_bpe.learn_bpe(joined, file, merges)


def encode(bpe, source, target):
    """Write the lines of the file ``source`` in subwords (``un@@ believ@@ able``) to ``target``.

    In one process: the library's own parallel mode goes on silently where a worker has failed.
    """
    with Path(source).open(encoding="utf-8", newline="\n") as lines, writing(target) as file:
        file.writelines(map(bpe.process_line, lines))


def main():
    parser = argparse.ArgumentParser(prog="python -m el_fairseq.corpora.bpe", description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder with manifest.json and text/; gets bpe/")
    parser.add_argument("--merges", type=int, required=True, help="number of joint merges")
    options = parser.parse_args()
    corpus = options.corpus
    manifest = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
    languages = manifest["source"], manifest["target"]
    (corpus / "bpe").mkdir(exist_ok=True)
    codes = corpus / "bpe" / "codes"
    learn([corpus / "text" / f"train.{side}" for side in languages], codes, options.merges)
    with codes.open(encoding="utf-8") as file:
        bpe = apply_bpe.BPE(file)
    for split in SPLITS:
        for side in languages:
            name = f"{split}.{side}"
            encode(bpe, corpus / "text" / name, corpus / "bpe" / name)


if __name__ == "__main__":
    run(main)
