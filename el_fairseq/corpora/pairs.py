"""Pairs of sentences: read from two files together, filtered, written by subset."""

import collections
import contextlib
import itertools

from ..common.cli import UserError
from ..common.files import lines_of
from . import moses
from .languages import characters_in


def folded(path):
    """Yield the lines of a file with white space folded to single spaces."""
    return (" ".join(line.split()) for line in lines_of(path))


def read_pairs(paths, sentences_of=folded, *, languages, form):
    """Yield pairs of sentences of two files, which ``sentences_of`` reads from a path, in a form.

    ``form`` holds keyword arguments of :func:`.moses.in_form`.

    Raises:
        UserError: one file ends before the other.
    """
    end = object()
    sides = [
        moses.in_form(sentences_of(path), language, **form)
        for path, language in zip(paths, languages)
    ]
    for number, pair in enumerate(itertools.zip_longest(*sides, fillvalue=end)):
        if end in pair:
            shorter, longer = paths if pair[0] is end else reversed(paths)
            raise UserError(
                f"{shorter.name} has {number} sentences and {longer.name} has more: they are not "
                "translations of each other line by line; give files of equal length"
            )
        yield pair


# The length of a tokenized sentence by its unit.
LENGTHS = {"tokens": lambda sentence: len(sentence.split(" ")), "characters": characters_in}


def reason_to_drop(source, target, longest, max_ratio, unit="tokens"):
    """Return why a tokenized training pair is dropped, or ``None``."""
    if not source or not target:
        return "a side is empty"
    lengths = LENGTHS[unit](source), LENGTHS[unit](target)
    if max(lengths) > longest:
        return f"a side has over {longest} {unit}"
    if max(lengths) / min(lengths) > max_ratio:
        return f"one side has over {max_ratio:g} times the {unit} of the other"
    return None


def write(folder, languages, subsets, placed):
    """Write ``text/SUBSET.LANGUAGE`` below ``folder``; returns the beginning of the manifest.

    ``placed`` yields (place, pair): the place is one of ``subsets``, or the reason why the pair is
    dropped.
    """
    (folder / "text").mkdir()
    pairs, dropped = dict.fromkeys(subsets, 0), collections.Counter()
    with contextlib.ExitStack() as stack:
        files = {
            (subset, language): stack.enter_context(
                (folder / "text" / f"{subset}.{language}").open("w", encoding="utf-8")
            )
            for subset in subsets
            for language in languages
        }
        for place, pair in placed:
            if place not in pairs:
                dropped[place] += 1
                continue
            pairs[place] += 1
            for language, sentence in zip(languages, pair):
                files[place, language].write(f"{sentence}\n")
    made = {"source": languages[0], "target": languages[1]}
    return {**made, "pairs": pairs, "dropped": dict(dropped.most_common())}


def write_references(folder, language, paths, lowercased=False):
    """Write ``references/SUBSET.LANGUAGE`` below ``folder``: plain translations to score against.

    ``paths`` are those of the translations, by subset; training text is left out.
    """
    (folder / "references").mkdir()
    for subset, path in paths.items():
        if subset != "train":
            lines = moses.in_form(folded(path), language, lowercased=lowercased)
            text = "".join(f"{line}\n" for line in lines)
            (folder / "references" / f"{subset}.{language}").write_text(text, encoding="utf-8")
