"""Subwords of both kinds: SentencePiece, and the byte pair encoding of subword-nmt.

One joint model for both sides of a corpus. SentencePiece writes ``▁un believ able``,
subword-nmt ``un@@ believ@@ able``.
"""

import contextlib
import io
from pathlib import Path

from ..common.cli import UserError
from ..common.files import writing

# File of the model below a corpus's bpe/, by kind.
MODELS = {"sentencepiece": "sentencepiece.model", "subword-nmt": "codes"}


# Words that fairseq's dictionaries keep for themselves: in text they would end a sentence, or hide.
SYMBOLS = frozenset(("<s>", "<pad>", "</s>", "<unk>"))


def refuse_symbols(text, place):
    """Raise :class:`UserError` where a word, or subword, of ``text`` is a symbol of fairseq's.

    ``place`` says which line the text is.
    """
    for symbol in SYMBOLS.intersection(text.split(" ")):
        raise UserError(
            f"{place}: {symbol} is a symbol of fairseq's own dictionary, which no text can hold: "
            "take it out, write it in another way, or tokenize the text (--tokenizer moses)"
        )


class Subwords:
    """A subword model: SentencePiece (a file that ends in .model) or subword-nmt's BPE codes.

    ``symbol`` is what fairseq calls ``--remove-bpe``.
    """

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
        # Both libraries end in various errors on what they cannot read, subword-nmt in an exit.
        except (Exception, SystemExit) as error:
            raise UserError(
                f"subword model {path} cannot be read: {error}; expected a SentencePiece .model "
                "or BPE codes of subword-nmt"
            ) from None

    def pieces(self, text):
        """The subwords of a line of text, parted by spaces."""
        return self._pieces(text)


def _sentencepiece(path):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(Path(path).read_bytes())
    return lambda text: " ".join(processor.encode(text, out_type=str))


def _byte_pairs(path):
    from subword_nmt.apply_bpe import BPE

    with Path(path).open(encoding="utf-8", newline="\n") as codes:
        model = BPE(codes)
    return model.process_line


def make(folder, manifest, kind, size, at_most=False):
    """Make ``bpe/`` of a corpus folder from its ``text/``: the model, and each file in subwords.

    Args:
        manifest: languages (``source``, ``target``) and subsets (keys of ``pairs``).
        kind: ``sentencepiece`` or ``subword-nmt``.
        size: number of pieces in SentencePiece's vocabulary, or of subword-nmt's merges.
        at_most: fewer merges will do where the text gives no more.

    Returns:
        The number of subwords in the longest sentence of each file, by its name.

    Raises:
        UserError: the text has too few words, or too many characters, for that size.
    """
    languages = manifest["source"], manifest["target"]
    text, bpe = folder / "text", folder / "bpe"
    bpe.mkdir()
    model = bpe / MODELS[kind]
    files = [text / f"train.{language}" for language in languages]
    if kind == "sentencepiece":
        learn_sentencepiece(files, model, size)
    else:
        learn_byte_pairs(files, model, size, at_most)
    model = Subwords(model)
    names = [f"{subset}.{language}" for subset in manifest["pairs"] for language in languages]
    return {name: encode(model, text / name, bpe / name) for name in names}


def learn_sentencepiece(files, model, pieces):
    """Learn a BPE model of ``pieces`` pieces from text files together, and write ``model``.

    Every character is covered and text is not normalised, so that decoding gives it back.
    """
    import sentencepiece

    made = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(files),
            model_writer=made,
            model_type="bpe",
            vocab_size=pieces,
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=1,
        )
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):  # raised in the iterator
            raise KeyboardInterrupt from None
        reason = str(error).rpartition("] ")[2]
        raise UserError(f"--pieces is {pieces}, which does not suit the text: {reason}") from None
    with writing(model, "wb") as file:
        file.write(made.getvalue())


def _lines(files):
    for name in files:
        with Path(name).open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line.rstrip("\n")


def learn_byte_pairs(files, codes, merges, at_most=False):
    """Learn ``merges`` merges from text files together, and write them to ``codes``."""
    from subword_nmt import learn_bpe

    made, progress = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(progress), contextlib.suppress(ValueError):
        # A ValueError is how it ends where the text has no two characters to merge.
        learn_bpe.learn_bpe((f"{line}\n" for line in _lines(files)), made, merges)
    learnt = made.getvalue().count("\n") - 1  # the first line is the version
    if learnt < merges and not at_most:
        raise UserError(f"--merges is {merges}, expected at most {learnt}: the text gives no more")
    with writing(codes) as file:
        file.write(made.getvalue())


def encode(subwords, source, target):
    """Write the lines of the file ``source`` in subwords to ``target``; returns the longest one.

    In one process: subword-nmt's own parallel mode goes on silently where a worker has failed.
    """
    longest, source = 0, Path(source)
    with source.open(encoding="utf-8", newline="\n") as lines, writing(target) as file:
        for number, line in enumerate(lines, start=1):
            pieces = subwords.pieces(line.rstrip("\n"))
            refuse_symbols(pieces, f"subwords of {'/'.join(source.parts[-2:])}, line {number}")
            longest = max(longest, pieces.count(" ") + 1)
            file.write(pieces + "\n")
    return longest


def text_of(tokens, dictionary, symbol):
    """Text of a sentence's binary tokens, subwords undone; unknown tokens become U+FFFD."""
    return dictionary.string(tokens, bpe_symbol=symbol, unk_string="\ufffd").strip()
