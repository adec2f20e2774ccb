"""The paper's two corpora of TED talks, from IWSLT's archives to what fairseq reads.

iwslt14-de-en: German-English with the usual preprocessing. 160,239 training, 7,283 validation and
6,750 test pairs, lowercased, 10,000 joint BPE merges. iwslt17-fr-en: French-English, cased, 16,384
joint SentencePiece pieces, one joined dictionary.

Training text lies in ``train.tags.*``, a line a sentence between lines of tags; the sets for
validation and test in XML, a line a segment.
"""

import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from ..common.cli import matching, run, whole_number
from ..common.files import lines_of
from . import pairs
from .prepare import AS_MADE, DATA, parser_of, prepare, say
from .sources import check, checksum, extract, fetch

LINES_OF_TAGS = ("<url>", "<talkid>", "<keywords>")
_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)(?=<seg\b|</seg>|$)")


def segments_of(path):
    """Yield the text of each ``<seg id="...">`` of an XML file; entities stay as they stand.

    A segment ends with its line at the latest.
    """
    for line in lines_of(path):
        for text in _SEGMENT.findall(line):
            yield text.strip()


def de_en(read, train, *tests):
    """Yield (subset or reason to drop, pair): every 23rd training pair that is kept validates.

    Titles and descriptions are also training text; test sets get plain apostrophes. ``read``
    yields the pairs of two paths, in the form of the corpus.
    """

    def training_sentences(path):
        lines = (line for line in lines_of(path) if not any(tag in line for tag in LINES_OF_TAGS))
        return (_TAGS.sub("", line) for line in lines)

    def test_sentences(path):
        return (text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for text in segments_of(path))

    kept = 0
    for pair in read(train, training_sentences):
        reason = pairs.reason_to_drop(*pair, longest=175, max_ratio=1.5)
        kept += reason is None
        yield reason or ("train" if kept % 23 else "valid"), pair
    yield from (("test", pair) for test in tests for pair in read(test, test_sentences))


def fr_en(read, train, valid, test):
    """Yield (subset, pair): of training text, each line that begins with no tag."""

    def training_sentences(path):
        return (line for line in lines_of(path) if not line.startswith("<"))

    yield from (("train", pair) for pair in read(train, training_sentences))
    yield from (("valid", pair) for pair in read(valid, segments_of))
    yield from (("test", pair) for pair in read(test, segments_of))


CORPORA = {
    "iwslt14-de-en": SimpleNamespace(
        title="IWSLT'14 German-English (TED talks)",
        url="http://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz",
        checksum="md5:10936dfdf616504ddbd844e91b94ef4a",
        files=(
            *("train.tags.de-en.{}", "IWSLT14.TED.dev2010.de-en.{}.xml"),
            *("IWSLT14.TEDX.dev2012.de-en.{}.xml", "IWSLT14.TED.tst2010.de-en.{}.xml"),
            *("IWSLT14.TED.tst2011.de-en.{}.xml", "IWSLT14.TED.tst2012.de-en.{}.xml"),
        ),
        placed=de_en,
        form={"tokenizer": "moses", "lowercased": True},
        subwords=("merges", 10_000),
        joined_dictionary=False,
        expected={"train": 160239, "valid": 7283, "test": 6750, "types de": 8848, "types en": 6632},
    ),
    "iwslt17-fr-en": SimpleNamespace(
        title="IWSLT'17 French-English (TED talks)",
        url="https://raw.githubusercontent.com/hlt-mt/WIT3/master/archive/2017-01-trnted/texts/"
        "fr/en/fr-en.tgz",
        checksum="git-blob:3e028db081441e51b6e81a4ebd6702148b774ebc",
        files=(
            *("train.tags.fr-en.{}", "IWSLT17.TED.dev2010.fr-en.{}.xml"),
            "IWSLT17.TED.tst2015.fr-en.{}.xml",
        ),
        placed=fr_en,
        form={"tokenizer": "moses", "lowercased": False},
        subwords=("pieces", 16_384),
        joined_dictionary=True,
        expected={},  # no counts have been published
    ),
}


def main(name):
    """Command line of a corpus."""
    corpus, (_, *languages) = CORPORA[name], name.split("-")
    unit, size = corpus.subwords
    parser = parser_of(name, __doc__, name)
    add = parser.add_argument
    add("--archive", type=Path, metavar="FILE", help="a .tgz or .zip, instead of downloading")
    add("--url", default=corpus.url, help="another address to download it from")
    kinds = "md5:HEX, sha256:HEX or git-blob:HEX"
    given = matching("(?i)md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|git-blob:[0-9a-f]{40}", kinds)
    add("--checksum", type=given, metavar="SUM", help=f"what the archive must have: {kinds}")
    subwords = f"size of the subwords (default: {size}; a small archive needs fewer)"
    add(f"--{unit}", type=whole_number(1), default=size, metavar="N", help=subwords)
    options = parser.parse_args()
    out, wanted = options.out or DATA / name, (options.checksum or corpus.checksum).lower()
    archive = options.archive or out.parent / "archives" / corpus.url.rsplit("/", 1)[-1]
    kind = corpus.checksum.partition(":")[0]
    # A corpus that is there may be of the published archive, or of that of a mirror.
    given = checksum(archive, kind) if options.archive else AS_MADE
    settings = {unit: getattr(options, unit), "archive": given}

    def write_text(folder):
        if not options.archive:
            fetch(options.url, archive, wanted, "(--archive FILE; --url for another address)")
        elif options.checksum:
            check(archive, wanted, "give the right file or checksum")
        settings["archive"] = identity = checksum(archive, kind) if given is AS_MADE else given
        published = identity == corpus.checksum
        if not published and not options.checksum:
            say(
                f"note: {archive} is {identity}, expected {wanted} (the published archive): it is "
                "used as it is, and neither it nor the counts can be checked"
            )
        say("Extracting and tokenizing.")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".raw-") as raw:
            names = [name.format(side) for name in corpus.files for side in languages]
            paths = extract(archive, names, raw)
            files = zip(paths[::2], paths[1::2])
            read = partial(pairs.read_pairs, languages=languages, form=corpus.form)
            placed = corpus.placed(read, *files)
            written = pairs.write(folder, languages, ("train", "valid", "test"), placed)
        return {
            "corpus": corpus.title,
            "archive": {"name": archive.name, "checksum": identity, "published": published},
            **corpus.form,
            "expected": corpus.expected if published else {},
            **written,
        }

    prepare(out, settings, write_text, corpus.joined_dictionary)


if __name__ == "__main__":
    run(lambda: main(sys.argv.pop(1)))
