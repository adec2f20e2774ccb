"""Subwords of both kinds: SentencePiece, and the byte pair encoding of subword-nmt.

One joint model for both sides of a corpus. SentencePiece writes ``▁un believ able``,
subword-nmt ``un@@ believ@@ able``.
"""

import contextlib
import io
from pathlib import Path

import sentencepiece
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from ..common.cli import UserError

# File of the model below a corpus's bpe/, by kind.
MODELS = {"sentencepiece": "sentencepiece.model", "subword-nmt": "codes"}
# Value of fairseq's --remove-bpe by kind.
REMOVE_BPE = {"sentencepiece": "sentencepiece", "subword-nmt": "@@ "}
# What fairseq's dictionaries keep for themselves; in text, they would be read as special symbols.
SYMBOLS = frozenset(("<s>", "<pad>", "</s>", "<unk>"))


class Subwords:
    """A subword model: SentencePiece (a file that ends in .model) or subword-nmt's BPE codes.

    ``symbol`` is what fairseq calls ``--remove-bpe``; ``pieces(line)`` are a line's subwords,
    separated by spaces.
    """

    def __init__(self, path):
        try:
            if Path(path).suffix == ".model":
                self.symbol = REMOVE_BPE["sentencepiece"]
                model = sentencepiece.SentencePieceProcessor()
                model.LoadFromSerializedProto(Path(path).read_bytes())
                self.pieces = lambda text: " ".join(model.encode(text, out_type=str))
            else:
                self.symbol = REMOVE_BPE["subword-nmt"]
                with Path(path).open(encoding="utf-8", newline="\n") as codes:
                    self.pieces = BPE(codes).process_line
        # Both libraries end in various errors on what they cannot read, subword-nmt in an exit.
        except (Exception, SystemExit) as error:
            raise UserError(
                f"subword model {path} cannot be read: {error}; expected a SentencePiece .model "
                "or BPE codes of subword-nmt"
            ) from None


def learn(lines, kind, size):
    """Learn a model of a ``kind`` in :data:`MODELS` from lines of text; returns its file's bytes.

    ``size`` is the number of pieces in SentencePiece's vocabulary, or the most merges of
    subword-nmt. SentencePiece covers every character and does not normalize, so that decoding
    gives text back.

    Raises:
        UserError: the text has too few words, or too many characters, for SentencePiece.
    """
    if kind == "subword-nmt":
        codes = io.StringIO()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(ValueError):
            # A ValueError is how it ends where the text has no two characters to merge.
            learn_bpe((f"{line}\n" for line in lines), codes, size)
        return codes.getvalue().encode()
    made = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=made,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=1,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise UserError(f"--pieces is {size}, which does not suit the text: {reason}") from None
    return made.getvalue()


def encode(model, lines, target, name):
    """Write lines of the text ``name`` in subwords of a :class:`Subwords` model to a file.

    Raises:
        UserError: a subword is a symbol of fairseq's own.
    """
    with Path(target).open("w", encoding="utf-8") as file:
        for number, line in enumerate(lines, start=1):
            pieces = model.pieces(line)
            for symbol in SYMBOLS.intersection(pieces.split(" ")):
                raise UserError(
                    f"{name}, line {number}: {symbol} is a symbol of fairseq's own dictionary, "
                    "which no text can hold: take it out, write it in another way, or tokenize "
                    "the text (--tokenizer moses)"
                )
            file.write(f"{pieces}\n")


def text_of(tokens, dictionary, symbol):
    """Text of a sentence's binary tokens, subwords undone; unknown tokens become U+FFFD."""
    return dictionary.string(tokens, bpe_symbol=symbol, unk_string="\ufffd").strip()
