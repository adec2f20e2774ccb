"""What the corpora of IWSLT share: TED talks in an archive, and the way from there to text.

Training text lies in ``train.tags.*``, a line a sentence between lines of tags; the sets for
validation and test in XML, a line a segment.
"""

import functools
import re
import sys
import tempfile
from pathlib import Path

from ..common.cli import UserError, whole_number
from . import archives
from .checksums import checked_checksum, checksum
from .downloads import fetch
from .moses import tokenized, tool
from .pairs import Text, read_lines
from .prepare import add_workers, given_options, name_of, out_of, parser_of, prepare, say

SPLITS = ("train", "valid", "test")
SUBWORD_SIZES = {"sentencepiece": "pieces", "subword-nmt": "merges"}
_SEGMENT_START = re.compile(r"<seg\b[^>]*>")
_SEGMENT_END = "</seg>"


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


def write_text(corpus, archive, record, folder, workers=1):
    """From an archive to ``text/`` below ``folder``; returns the beginning of the manifest.

    ``corpus`` is a module of this package with what is known of the corpus and its rules,
    ``record`` what the manifest says of the archive.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".raw-") as temporary:
        names = [name.format(side) for name in corpus.FILES for side in corpus.LANGUAGES]
        found = archives.extract(archive, names, temporary)

        def files(name):
            return [found[name.format(language)] for language in corpus.LANGUAGES]

        tokenize = functools.partial(tokenized, workers=workers)
        with Text(folder / "text", corpus.LANGUAGES, SPLITS, tokenize) as text:
            corpus.make_text(text, files)
    return {
        "corpus": corpus.TITLE,
        "archive": record,
        "tokenizer": "moses",
        "tokenized by": tool(),
        "lowercased": corpus.LOWERCASED,
        "expected": corpus.EXPECTED if record["published"] else {},
        **text.manifest(),
    }


def main(corpus):
    """Command line of a corpus module."""
    name, size_name = corpus.NAME, SUBWORD_SIZES[corpus.SUBWORDS]
    parser = parser_of(name, corpus.__doc__, name)
    add = parser.add_argument
    add("--archive", type=Path, metavar="FILE", help="a .tgz or .zip, instead of downloading")
    add("--url", action="append", help="another address; several: one by one")
    sums = "what the archive must have: md5:HEX, sha256:HEX or git-blob:HEX"
    add("--checksum", metavar="SUM", help=sums)
    subwords = f"size of the subwords (default: {corpus.SIZE}; a small archive needs fewer)"
    add(f"--{size_name}", type=whole_number(1), metavar="N", help=subwords)
    add_workers(parser)
    options = parser.parse_args()
    wanted = options.checksum and checked_checksum(options.checksum)
    out = out_of(options, name)
    kind = corpus.CHECKSUM.partition(":")[0]
    given = given_options(options, size_name)
    size = given.get(size_name, corpus.SIZE)
    at_most = size_name not in given
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
        found = write_text(corpus, archive, record, folder, options.workers)
        return {**found, "options": {size_name: size, "archive": checksum(archive, kind)}}

    prepare(
        out,
        given,
        text,
        kind=corpus.SUBWORDS,
        size=size,
        joined=corpus.JOINED_DICTIONARY,
        at_most=at_most,
    )
