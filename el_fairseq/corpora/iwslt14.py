"""IWSLT'14 German-English, with the usual preprocessing, from the archive to what fairseq reads.

160,239 training, 7,283 validation and 6,750 test pairs, lowercased, 10,000 joint BPE merges.
"""

import re
import sys

from ..common.cli import run
from . import iwslt
from .moses import lowercase
from .pairs import read_lines, reason_to_drop

NAME = "iwslt14-de-en"
TITLE = "IWSLT'14 German-English (TED talks)"
LANGUAGES = ("de", "en")
URL = "http://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"
CHECKSUM = "md5:10936dfdf616504ddbd844e91b94ef4a"
SUBWORDS = {"merges": 10_000}
JOINED_DICTIONARY = False
LOWERCASED = True
EXPECTED = {"train": 160239, "valid": 7283, "test": 6750, "types de": 8848, "types en": 6632}

TRAIN = "train.tags.de-en.{}"
TESTS = tuple(
    f"IWSLT14.{name}.de-en.{{}}.xml"
    for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
)
FILES = (TRAIN, *TESTS)
LINES_OF_TAGS = ("<url>", "<talkid>", "<keywords>")
MAX_TOKENS = 175
MAX_RATIO = 1.5
VALIDATION_EVERY = 23
_TAGS = re.compile("</?(?:title|description)>")


def training_sentences(path):
    """Yield the sentences of a training file: its text, titles and descriptions."""
    for line in read_lines(path):
        if not any(tag in line for tag in LINES_OF_TAGS):
            yield _TAGS.sub("", line)


def test_sentences(path):
    """Yield the segments of a test set, with plain apostrophes."""
    for segment in iwslt.segments_of(path):
        yield segment.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def placed(read):
    """Yield (subset or reason to drop, pair); ``read(name, sentences_of)`` has tokenized pairs."""
    kept = 0
    for pair in read(TRAIN, training_sentences):
        reason = reason_to_drop(*pair, MAX_TOKENS, MAX_RATIO)
        kept += reason is None
        split = "train" if kept % VALIDATION_EVERY else "valid"
        yield reason or split, map(lowercase, pair)
    for name in TESTS:
        for pair in read(name, test_sentences):
            yield "test", map(lowercase, pair)


if __name__ == "__main__":
    run(lambda: iwslt.main(sys.modules[__name__]))
