"""What the corpora of IWSLT share: TED talks in an archive, and the way from there to text.

Training text lies in ``train.tags.*``, a line a sentence between lines of tags; the sets for
validation and test in XML, a line a segment.
"""

import argparse
import functools
import itertools
import os
import re
import sys
import tempfile
from pathlib import Path

from ..common.cli import UserError, whole_number
from . import archives
from .checksums import checked_checksum, checksum
from .downloads import fetch
from .moses import tokenized, tokenizer_script, tool
from .pairs import Text, read_lines
from .prepare import add_out, given_options, name_of, out_of, prepare, say

SPLITS = ("train", "valid", "test")
SUBWORD_SIZES = {"sentencepiece": "pieces", "subword-nmt": "merges"}
_SEGMENT_START = re.compile(r"<seg\b[^>]*>")
_SEGMENT_END = "</seg>"
# Words that are frequent in one of the languages and rare in the others.
_FREQUENT = {
    "de": {"der", "die", "das", "und", "ist", "nicht", "ein", "zu", "den", "mit", "sie", "wir"},
    "en": {"the", "and", "of", "to", "is", "that", "it", "you", "this", "we", "with", "for"},
    "fr": {"le", "la", "les", "et", "est", "un", "une", "que", "pour", "dans", "vous", "nous"},
}
LINES_TO_TELL_LANGUAGES = 5_000


def segments_of(path):
    """Yield the text of each ``<seg id="...">`` of an XML file; entities stay as they stand.

    A segment ends with its line: where the end tag is not there, a warning says so.
    """
    for number, line in enumerate(read_lines(path), start=1):
        for segment in _SEGMENT_START.split(line)[1:]:
            text, end, _ = segment.partition(_SEGMENT_END)
            if not end:
                print(
                    f"warning: {Path(path).name}, line {number}: a segment has no "
                    f"{_SEGMENT_END} on its line; what follows on the next is left out",
                    file=sys.stderr,
                )
            yield text.strip()


def check_languages(paths, languages):
    """Raise :class:`UserError` where the first file is in the second language and vice versa.

    By frequent words, in two files that are each other's translation.
    """
    own, swapped = (
        sum(_frequent_words(path, language) for path, language in zip(paths, order))
        for order in (languages, languages[::-1])
    )
    if swapped > own:
        names = [path.name for path in paths]
        raise UserError(
            f"{names[0]} looks like {languages[1]} and {names[1]} like {languages[0]}: the two "
            "are swapped; give an archive with the right names"
        )


def _frequent_words(path, language):
    lines = itertools.islice(read_lines(path), LINES_TO_TELL_LANGUAGES)
    return sum(word in _FREQUENT[language] for line in lines for word in line.lower().split())


def get_archive(corpus, path, archive, urls, wanted):
    """The archive to use: ``archive`` as given, or ``path``, downloaded where it is not there.

    Returns its path and what the manifest says about it. With ``archive`` a difference from the
    published file is told, and refused only if ``wanted`` was given by the user.
    """
    pinned = wanted or corpus.CHECKSUM
    kind = pinned.partition(":")[0]
    if archive is None:
        fetch(urls or corpus.URLS, path, pinned, "(--archive FILE; --url URL for another address)")
        archive = path
    found = checksum(archive, kind)
    if found != pinned:
        message = f"{archive} is {found}, expected {pinned}"
        if wanted:
            raise UserError(message + "; give the right file or checksum")
        say(
            f"note: {message} (the published archive): it is used as it is, and neither it nor "
            "the counts can be checked"
        )
    published = corpus.CHECKSUM
    return archive, {
        "name": name_of(archive),
        "checksum": found,
        "published": checksum(archive, published.partition(":")[0]) == published,
    }


def write_text(corpus, archive, record, folder, moses_dir=None, workers=1):
    """From an archive to ``text/`` below ``folder``; returns the beginning of the manifest.

    ``corpus`` is a module of this package with what is known of the corpus and its rules,
    ``record`` what the manifest says of the archive.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".raw-") as temporary:
        raw = Path(temporary, "raw")

        def files(name):
            return [raw / name.format(language) for language in corpus.LANGUAGES]

        members = [files(name) for name in corpus.FILES]
        archives.extract(archive, [path.name for pair in members for path in pair], raw)
        for pair in members:
            check_languages(pair, corpus.LANGUAGES)
        tokenize = functools.partial(tokenized, moses_dir=moses_dir, workers=workers)
        with Text(folder / "text", corpus.LANGUAGES, SPLITS, tokenize) as text:
            corpus.make_text(text, files)
    for split, count in text.pairs.items():
        if not count:
            raise UserError(f"{archive} leaves no pairs for {split}; give a larger archive")
    return {
        "corpus": corpus.TITLE,
        "archive": record,
        "tokenizer": "moses",
        "tokenized by": tool(moses_dir),
        "lowercased": corpus.LOWERCASED,
        "expected": corpus.EXPECTED if record["published"] else {},
        **text.manifest(),
    }


def main(corpus):
    """Command line of a corpus module."""
    name, size_name = corpus.NAME, SUBWORD_SIZES[corpus.SUBWORDS]
    parser = argparse.ArgumentParser(prog=f"bash data-prep/{name}.sh", description=corpus.TITLE)
    add_out(parser, name)
    parser.add_argument("--archive", type=Path, help="use this file instead of downloading")
    parser.add_argument("--url", action="append", help="another address; several: one by one")
    parser.add_argument("--checksum", help="expected, as md5:HEX, sha256:HEX or git-blob:HEX")
    parser.add_argument("--moses-dir", type=Path, help="tokenize by the Perl scripts below it")
    parser.add_argument(f"--{size_name}", type=whole_number(1), help=f"default: {corpus.SIZE}")
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    wanted = options.checksum and checked_checksum(options.checksum)
    if options.moses_dir is not None:
        tokenizer_script(options.moses_dir)
    out = out_of(options, name)
    kind = corpus.CHECKSUM.partition(":")[0]
    given = given_options(options, size_name)
    size = given.get(size_name, corpus.SIZE)
    at_most = size_name not in given
    if options.moses_dir is not None:
        given["tokenized by"] = tool(options.moses_dir)
    if options.archive is not None:
        if not options.archive.is_file():
            raise UserError(
                f"there is no file {options.archive}; --archive names a .tgz or .zip file"
            )
        given["archive"] = checksum(options.archive, kind)

    def text(folder):
        path = out.parent / "archives" / corpus.URLS[0].rsplit("/", 1)[-1]
        archive, record = get_archive(corpus, path, options.archive, options.url, wanted)
        say("Extracting and tokenizing.")
        found = write_text(corpus, archive, record, folder, options.moses_dir, options.workers)
        made = {"tokenized by": found["tokenized by"], "archive": checksum(archive, kind)}
        return {**found, "options": {size_name: size, **made}}

    prepare(
        out,
        given,
        text,
        kind=corpus.SUBWORDS,
        size=size,
        joined=corpus.JOINED_DICTIONARY,
        at_most=at_most,
    )
