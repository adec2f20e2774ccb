"""What the corpora of IWSLT share: TED talks in an archive, and how text is extracted.

Training text lies in ``train.tags.*``, a line a sentence between lines of tags; the sets for
validation and test in XML, a line a segment. :mod:`.iwslt14` and :mod:`.iwslt17` hold what is
known of each corpus, and its rules.
"""

import re
import tempfile
from pathlib import Path

from ..common.cli import argument, whole_number
from . import moses, pairs
from .prepare import AS_MADE, DATA, parser_of, prepare, say
from .sources import check, checksum, extract, fetch, read_checksum

_SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)(?=<seg\b|</seg>|$)")


def segments_of(path):
    """Yield the text of each ``<seg id="...">`` of an XML file; entities stay as they stand.

    A segment ends with its line at the latest.
    """
    for line in pairs.read_lines(path):
        for text in _SEGMENT.findall(line):
            yield text.strip()


def write_text(corpus, archive, folder):
    """From an archive to ``text/`` below ``folder``; returns the beginning of the manifest.

    ``corpus`` is one of the two modules.
    """
    identity = checksum(archive, corpus.CHECKSUM.partition(":")[0])
    published = identity == corpus.CHECKSUM
    with tempfile.TemporaryDirectory(dir=folder, prefix=".raw-") as raw:
        names = [name.format(side) for name in corpus.FILES for side in corpus.LANGUAGES]
        paths = extract(archive, names, raw)

        def read(name, sentences_of):
            """Tokenized pairs of the two files of a ``name``."""
            both = [paths[name.format(language)] for language in corpus.LANGUAGES]
            return moses.tokenized(pairs.read_pairs(both, sentences_of), corpus.LANGUAGES)

        subsets = ("train", "valid", "test")
        written = pairs.write(folder, corpus.LANGUAGES, subsets, corpus.placed(read))
    return {
        "corpus": corpus.TITLE,
        "archive": {"name": archive.name, "checksum": identity, "published": published},
        "tokenizer": "moses",
        "tokenized by": moses.TOOL,
        "lowercased": corpus.LOWERCASED,
        "expected": corpus.EXPECTED if published else {},
        **written,
    }


def main(corpus):
    """Command line of a corpus module."""
    [(unit, size)] = corpus.SUBWORDS.items()
    parser = parser_of(corpus.NAME, corpus.__doc__, corpus.NAME)
    add = parser.add_argument
    add("--archive", type=Path, metavar="FILE", help="a .tgz or .zip, instead of downloading")
    add("--url", default=corpus.URL, help="another address to download it from")
    kinds = "md5:HEX, sha256:HEX or git-blob:HEX"
    given = argument(read_checksum, kinds)
    add("--checksum", type=given, metavar="SUM", help=f"what the archive must have: {kinds}")
    subwords = f"size of the subwords (default: {size}; a small archive needs fewer)"
    add(f"--{unit}", type=whole_number(1), default=size, metavar="N", help=subwords)
    options = parser.parse_args()
    out, wanted = options.out or DATA / corpus.NAME, options.checksum or corpus.CHECKSUM
    archive = options.archive or out.parent / "archives" / corpus.URL.rsplit("/", 1)[-1]
    kind = corpus.CHECKSUM.partition(":")[0]
    identity = checksum(archive, kind) if options.archive else AS_MADE

    def text(folder):
        if not options.archive:
            fetch(options.url, archive, wanted, "(--archive FILE; --url for another address)")
        elif options.checksum:
            check(archive, wanted, "give the right file or checksum")
        elif identity != wanted:
            say(
                f"note: {archive} is {identity}, expected {wanted} (the published archive): it is "
                "used as it is, and neither it nor the counts can be checked"
            )
        say("Extracting and tokenizing.")
        made = write_text(corpus, archive, folder)
        settings["archive"] = made["archive"]["checksum"]
        return made

    settings = {unit: getattr(options, unit), "archive": identity}
    prepare(out, settings, text, corpus.JOINED_DICTIONARY)
