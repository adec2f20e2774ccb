"""IWSLT'17 French-English, from the archive to what fairseq reads.

Cased, 16,384 joint SentencePiece pieces, one joined dictionary.
"""

import sys

from ..common.cli import run
from . import iwslt
from .pairs import read_lines

NAME = "iwslt17-fr-en"
TITLE = "IWSLT'17 French-English (TED talks)"
LANGUAGES = ("fr", "en")
URL = (
    "https://raw.githubusercontent.com/hlt-mt/WIT3/master/archive/2017-01-trnted/texts/fr/en/"
    "fr-en.tgz"
)
CHECKSUM = "git-blob:3e028db081441e51b6e81a4ebd6702148b774ebc"
SUBWORDS = {"pieces": 16_384}
JOINED_DICTIONARY = True
LOWERCASED = False
EXPECTED = {}  # no counts have been published

TRAIN = "train.tags.fr-en.{}"
VALID = "IWSLT17.TED.dev2010.fr-en.{}.xml"
TEST = "IWSLT17.TED.tst2015.fr-en.{}.xml"
FILES = (TRAIN, VALID, TEST)


def training_sentences(path):
    """Yield the sentences of a training file: each line that begins with no tag."""
    return (line for line in read_lines(path) if not line.startswith("<"))


def placed(read):
    """Yield (subset, pair); ``read(name, sentences_of)`` has tokenized pairs."""
    readers = {"train": training_sentences, "valid": iwslt.segments_of, "test": iwslt.segments_of}
    for split, name in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        for pair in read(name, readers[split]):
            yield split, pair


if __name__ == "__main__":
    run(lambda: iwslt.main(sys.modules[__name__]))
