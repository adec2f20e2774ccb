"""What the corpora of IWSLT share: TED talks in an archive, and the way from there to text.

Training text lies in ``train.tags.*``, a line a sentence between lines of tags; the sets for
validation and test in XML, a line a segment.
"""

import argparse
import collections
import itertools
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import sacremoses

from ..common.cli import UserError
from ..common.files import writing
from . import archives
from .downloads import checksum, fetch, kind_of
from .moses import tokenized, tokenizer_script

SPLITS = ("train", "valid", "test")
_SEGMENT_START = re.compile(r'<seg id="[^"]*">')
_SEGMENT_END = "</seg>"


def lines_of(path):
    """Yield the lines of a UTF-8 file without line ends, Unix or Windows, and byte order mark.

    Raises:
        UserError: a line is not UTF-8; the message names the file and the line.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{Path(path).name}, line {number}: byte 0x{line[error.start]:02x} is not "
                    "UTF-8; convert the file, or give another archive"
                ) from None


def segments_of(path):
    """Yield the text of each ``<seg id="...">`` of an XML file; entities stay as they stand.

    A segment ends with its line: where the end tag is not there, a warning says so.
    """
    for number, line in enumerate(lines_of(path), start=1):
        start = _SEGMENT_START.search(line)
        if start:
            text, end, _ = line[start.end() :].partition(_SEGMENT_END)
            if not end:
                print(
                    f"warning: {Path(path).name}, line {number}: the segment has no "
                    f"{_SEGMENT_END} on its line; what follows on the next is left out",
                    file=sys.stderr,
                )
            yield text.strip()


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
                "translations of each other line by line; give another archive"
            )
        yield pair


class Text:
    """The text files of a corpus while they are made, and what is counted meanwhile.

    ``raw`` holds the extracted files, ``folder`` gets ``{train,valid,test}.{source,target}``.
    """

    def __init__(self, raw, folder, languages, moses_dir=None, workers=1):
        self.raw = raw
        self.languages = languages
        self.moses_dir = moses_dir
        self.workers = workers
        self.steps = {}
        self.dropped = collections.Counter()
        self.pairs = dict.fromkeys(SPLITS, 0)
        self._files = {
            split: [
                (folder / f"{split}.{language}").open("w", encoding="utf-8", newline="\n")
                for language in languages
            ]
            for split in SPLITS
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in itertools.chain(*self._files.values()):
            file.close()

    def read(self, name, reader):
        """Yield tokenized pairs of the files ``name``, with ``{}`` for the language.

        ``reader`` turns a path into the sentences that count.
        """
        names = [name.format(language) for language in self.languages]
        sides = [
            tokenized(reader(self.raw / file), language, self.moses_dir, self.workers)
            for file, language in zip(names, self.languages)
        ]
        step = self.steps[name.format("*")] = {"pairs": 0, "with an empty side": 0}
        for pair in in_pairs(*sides, names):
            step["pairs"] += 1
            step["with an empty side"] += not all(pair)
            yield pair

    def write(self, split, pair):
        self.pairs[split] += 1
        for file, sentence in zip(self._files[split], pair):
            file.write(sentence + "\n")


def get_archive(corpus, path, archive, urls, wanted):
    """The archive to use: ``archive`` as given, or ``path``, downloaded where it is not there.

    Returns its path and what the manifest says about it. With ``archive`` a difference from the
    published file is told, and refused only if ``wanted`` was given by the user.
    """
    pinned = wanted or corpus.CHECKSUM
    kind = kind_of(pinned)
    if archive is None:
        if not path.exists() or checksum(path, kind) != pinned:
            fetch(urls or corpus.URLS, path, pinned)
        archive = path
    elif not archive.is_file():
        raise UserError(f"there is no file {archive}; --archive names a .tgz or .zip file")
    found = checksum(archive, kind)
    if found != pinned:
        message = f"{archive} is {found}, expected {pinned}"
        if wanted:
            raise UserError(message + "; give the right file or checksum")
        print(
            f"note: {message} (the published archive): it is used as it is, and neither it nor "
            "the counts can be checked",
            file=sys.stderr,
        )
    return archive, {
        "name": archive.name,
        "checksum": found,
        "published": checksum(archive, kind_of(corpus.CHECKSUM)) == corpus.CHECKSUM,
    }


def prepare(corpus, archive, record, out, moses_dir=None, workers=1):
    """From an archive to ``text/`` and the beginning of ``manifest.json`` in the folder ``out``.

    ``corpus`` is a module of this package with what is known of the corpus and its rules.
    """
    folder = out / "text"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".raw-") as temporary:
        raw = Path(temporary, "raw")
        archives.extract(archive, corpus.members(), raw)
        with Text(raw, folder, corpus.LANGUAGES, moses_dir, workers) as text:
            corpus.make_text(text)
    source, target = corpus.LANGUAGES
    for split, count in text.pairs.items():
        if not count:
            raise UserError(f"{archive} leaves no pairs for {split}; give a larger archive")
    tool = f"sacremoses {sacremoses.__version__} with the last-word rule of the Perl script"
    if moses_dir is not None:
        tool = f"tokenizer.perl, {checksum(tokenizer_script(moses_dir), 'sha256')}"
    manifest = {
        "corpus": corpus.TITLE,
        "archive": record,
        "source": source,
        "target": target,
        "tokenizer": "moses",
        "tokenized by": tool,
        "lowercased": corpus.LOWERCASED,
        "subwords": corpus.SUBWORDS,
        "steps": text.steps,
        "pairs": text.pairs,
        "dropped": dict(text.dropped.most_common()),
    }
    with writing(out / "manifest.json") as file:
        json.dump(manifest, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return manifest


def main(corpus):
    """Command line of a corpus module."""
    name = corpus.__spec__.name
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=corpus.TITLE)
    parser.add_argument("--out", type=Path, required=True, help="folder for text/ and manifest")
    parser.add_argument("--archive", type=Path, help="use this file instead of downloading")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the download")
    parser.add_argument("--url", action="append", help="another address; several: one by one")
    parser.add_argument("--checksum", help="expected, as md5:HEX, sha256:HEX or git-blob:HEX")
    parser.add_argument("--moses-dir", type=Path, help="tokenize by the Perl scripts below it")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    if options.moses_dir is not None:
        tokenizer_script(options.moses_dir)
    path = options.cache / corpus.URLS[0].rsplit("/", 1)[-1]
    archive, record = get_archive(corpus, path, options.archive, options.url, options.checksum)
    manifest = prepare(corpus, archive, record, options.out, options.moses_dir, options.workers)
    kept = ", ".join(f"{count:,} {split}" for split, count in manifest["pairs"].items())
    print(f"Kept    {kept} pairs")
    for reason, count in manifest["dropped"].items():
        print(f"Dropped {count:,}: {reason}")
