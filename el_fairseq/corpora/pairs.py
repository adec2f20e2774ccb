"""Pairs of sentences: read from two files together, tokenized, filtered, written by subset."""

import collections
import contextlib
import gzip
import itertools
import zlib
from pathlib import Path

from ..common.cli import UserError
from ..common.files import writing

# Byte pair encoding takes time by the square of a word's length: seconds for this one.
MAX_WORD = 10_000


def read_lines(path):
    """Yield the lines of a UTF-8 file, plain or .gz, without byte order mark and line ends.

    Raises:
        UserError: the file is not there, is damaged, or holds a line that is not UTF-8 or no text;
            the message names the file and the line.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _text(line, f"{path.name}, line {number}", number == 1)
    except FileNotFoundError:
        raise UserError(f"there is no {path}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged ({error}): pack it again") from None


def folded(path):
    """Yield the lines of a file with white space folded to single spaces."""
    return (" ".join(line.split()) for line in read_lines(path))


def write_references(paths, target, case, folder):
    """Write ``references/SUBSET.LANGUAGE`` below ``folder``: the plain translations.

    Args:
        paths: of the translations, by subset; training text is left out, for it is not scored.
        case: ``lowercase`` or ``str``, for each line.
    """
    (folder / "references").mkdir()
    for subset, path in paths.items():
        if subset != "train":
            with writing(folder / "references" / f"{subset}.{target}") as file:
                file.writelines(f"{case(line)}\n" for line in folded(path))


def _text(line, place, first):
    try:
        text = line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place}: byte 0x{line[error.start]:02x} is not UTF-8; convert the file, or give "
            "another one"
        ) from None
    if len(text) > MAX_WORD:
        longest = max(map(len, text.split()), default=0)
        if longest > MAX_WORD:
            raise UserError(
                f"{place}: a word of {longest:,} characters, expected at most {MAX_WORD:,}; "
                "take the line out, or give another file"
            )
    return text


def in_pairs(source, target, names):
    """Yield pairs of two streams of sentences.

    Raises:
        UserError: one ends before the other; the message has ``names`` and both numbers.
    """
    end = object()
    for number, pair in enumerate(itertools.zip_longest(source, target, fillvalue=end)):
        if end in pair:
            longer = source if pair[1] is end else target
            counts = [number, number]
            counts[longer is target] += 1 + sum(1 for _ in longer)
            raise UserError(
                f"{names[0]} has {counts[0]} sentences and {names[1]} {counts[1]}: they are not "
                "translations of each other line by line; give files of equal length"
            )
        yield pair


def tokens_in(sentence):
    """Length of a tokenized sentence."""
    return len(sentence.split(" "))


def reason_to_drop(source, target, longest, max_ratio, length=tokens_in, unit="tokens"):
    """Name the rule by which a tokenized training pair is left out, or return ``None``.

    ``length`` measures a sentence, in ``unit``.
    """
    if not source or not target:
        return "a side is empty"
    lengths = length(source), length(target)
    if max(lengths) > longest:
        return f"a side has over {longest} {unit}"
    if max(lengths) / min(lengths) > max_ratio:
        return f"one side has over {max_ratio:g} times the {unit} of the other"
    return None


class Text:
    """The text files of a corpus while they are made, and what is counted meanwhile.

    The new ``folder`` gets ``SUBSET.LANGUAGE`` for each of ``subsets``; ``tokenize(sentences,
    language)`` is how what is read is tokenized.
    """

    def __init__(self, folder, languages, subsets, tokenize=None):
        folder.mkdir()
        self.languages = languages
        self.tokenize = tokenize
        self.steps = {}
        self.dropped = collections.Counter()
        self.pairs = dict.fromkeys(subsets, 0)
        self._open = contextlib.ExitStack()
        self._files = {
            subset: [
                self._open.enter_context(
                    (folder / f"{subset}.{language}").open("w", encoding="utf-8", newline="\n")
                )
                for language in languages
            ]
            for subset in subsets
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open.close()

    def read(self, step, paths, sentences_of=read_lines):
        """Yield tokenized pairs of two files; the manifest counts them under the name ``step``.

        ``sentences_of`` turns a path into the sentences that count.
        """
        sides = map(sentences_of, paths)
        if self.tokenize is not None:
            sides = map(self.tokenize, sides, self.languages)
        counts = self.steps[step] = {"pairs": 0, "with an empty side": 0}
        for pair in in_pairs(*sides, [Path(path).name for path in paths]):
            counts["pairs"] += 1
            counts["with an empty side"] += not all(pair)
            yield pair

    def write(self, subset, pair):
        self.pairs[subset] += 1
        for file, sentence in zip(self._files[subset], pair):
            file.write(sentence + "\n")

    def manifest(self):
        """What the manifest says about the text: languages, steps, pairs, what was dropped."""
        source, target = self.languages
        return {
            "source": source,
            "target": target,
            "steps": self.steps,
            "pairs": self.pairs,
            "dropped": dict(self.dropped.most_common()),
        }
