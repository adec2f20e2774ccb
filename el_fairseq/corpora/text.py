"""From binary tokens back to text, and from text to subwords."""

from pathlib import Path

from ..common.cli import UserError


class Subwords:
    """A subword model: SentencePiece (a file that ends in .model) or subword-nmt's BPE codes."""

    def __init__(self, path):
        if not Path(path).is_file():
            raise UserError(f"no subword model at {path}")
        try:
            if Path(path).suffix == ".model":
                self.symbol = "sentencepiece"
                self._pieces = _sentencepiece(path)
            else:
                self.symbol = "@@ "
                self._pieces = _byte_pairs(path)
        except Exception as error:  # both libraries end in various errors on what they cannot read
            raise UserError(
                f"subword model {path} cannot be read: {error}; expected a SentencePiece .model "
                "or BPE codes of subword-nmt"
            ) from None

    def pieces(self, text):
        """The subwords of a line of text, parted by spaces."""
        return self._pieces(text)


def _sentencepiece(path):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda text: " ".join(processor.encode(text, out_type=str))


def _byte_pairs(path):
    from subword_nmt.apply_bpe import BPE

    with Path(path).open(encoding="utf-8") as codes:
        model = BPE(codes)
    return model.process_line


def text_of(tokens, dictionary, symbol):
    """Text of a sentence's tokens, subwords undone; unknown tokens become U+FFFD."""
    return dictionary.string(tokens, bpe_symbol=symbol, unk_string="\ufffd").strip()
