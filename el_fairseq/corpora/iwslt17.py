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

FILES = (
    "train.tags.fr-en.{}",
    "IWSLT17.TED.dev2010.fr-en.{}.xml",
    "IWSLT17.TED.tst2015.fr-en.{}.xml",
)


def training_sentences(path):
    """Yield the sentences of a training file: each line that begins with no tag."""
    return (line for line in read_lines(path) if not line.startswith("<"))


def placed(read):
    """Yield (subset, pair); ``read(name, sentences_of)`` has tokenized pairs."""
    readers = training_sentences, iwslt.segments_of, iwslt.segments_of
    for split, name, sentences_of in zip(("train", "valid", "test"), FILES, readers):
        for pair in read(name, sentences_of):
            yield split, pair


if __name__ == "__main__":
    run(lambda: iwslt.main(sys.modules[__name__]))
