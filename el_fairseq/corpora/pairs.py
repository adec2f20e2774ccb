"""Pairs of sentences: read from two files together, filtered, written by subset."""

import collections
import contextlib
import gzip
import itertools
import zlib
from pathlib import Path

from ..common.cli import UserError


def read_lines(path):
    """Yield the lines of a UTF-8 file, plain or .gz, without byte order mark and line ends.

    Raises:
        UserError: the packed file is damaged, or a line, which the message names, is not UTF-8.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path.name}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8; convert the "
            "file, or give another one"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged ({error}): pack it again") from None


def folded(path):
    """Yield the lines of a file with white space folded to single spaces."""
    return (" ".join(line.split()) for line in read_lines(path))


def read_pairs(paths, sentences_of=folded):
    """Yield pairs of sentences of two files; ``sentences_of`` reads them from a path.

    Raises:
        UserError: one file ends before the other.
    """
    end = object()
    sides = [sentences_of(path) for path in paths]
    for number, pair in enumerate(itertools.zip_longest(*sides, fillvalue=end)):
        if end in pair:
            shorter, longer = paths if pair[0] is end else reversed(paths)
            raise UserError(
                f"{shorter.name} has {number} sentences and {longer.name} has more: they are not "
                "translations of each other line by line; give files of equal length"
            )
        yield pair


def tokens_in(sentence):
    """Length of a tokenized sentence."""
    return len(sentence.split(" "))


def reason_to_drop(source, target, longest, max_ratio, length=tokens_in, unit="tokens"):
    """Return why a tokenized training pair is dropped, or ``None``.

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


def create(path):
    """Open a new text file: UTF-8, Unix line ends."""
    return Path(path).open("w", encoding="utf-8", newline="\n")


def write(folder, languages, subsets, placed):
    """Write ``text/SUBSET.LANGUAGE`` below ``folder``; returns the beginning of the manifest.

    ``placed`` yields (place, pair): the place is one of ``subsets``, or the reason why the pair is
    dropped.
    """
    (folder / "text").mkdir()
    pairs, dropped = dict.fromkeys(subsets, 0), collections.Counter()
    with contextlib.ExitStack() as stack:
        files = {
            subset: [
                stack.enter_context(create(folder / "text" / f"{subset}.{language}"))
                for language in languages
            ]
            for subset in subsets
        }
        for place, pair in placed:
            if place not in files:
                dropped[place] += 1
                continue
            pairs[place] += 1
            for file, sentence in zip(files[place], pair):
                file.write(f"{sentence}\n")
    return {
        "source": languages[0],
        "target": languages[1],
        "pairs": pairs,
        "dropped": dict(dropped.most_common()),
    }


def write_references(folder, language, paths, case=str):
    """Write ``references/SUBSET.LANGUAGE`` below ``folder``: plain translations to score against.

    Args:
        paths: of the translations, by subset; training text is left out.
        case: ``str`` or ``moses.lowercase``, for each line.
    """
    (folder / "references").mkdir()
    for subset, path in paths.items():
        if subset != "train":
            with create(folder / "references" / f"{subset}.{language}") as file:
                file.writelines(f"{case(line)}\n" for line in folded(path))
