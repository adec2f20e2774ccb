"""What a corpus is: the one reader of ``manifest.json``, and the end of writing it.

A corpus is a folder: ``text/`` (tokenized, ``SUBSET.LANGUAGE``), ``bpe/`` (in subwords, with
their model), ``bin/`` (what fairseq reads), and ``manifest.json``. Its files are named by
fairseq's subsets, ``train``, ``valid``, ``test``, ``test1``, ...; test sets have names of their
own besides.
"""

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..common.cli import UserError
from ..common.state import read_json
from ..common.text import lines_of
from .checksums import checksum
from .subwords import MODELS

TOOLS = ("sacremoses", "sentencepiece", "subword-nmt", "fairseq", "ve-fairseq")
FOLDERS = ("text", "bpe", "references", "bin")
ADVICE = (
    "prepare the corpus (bash data-prep/..., see --help of each; data-bin.sh for data that "
    "fairseq-preprocess made), or name it by --data"
)
# Name of all test sets of a corpus together, scored as one where the manifest says so.
ALL = "all"
_KEYS = {"source": str, "target": str, "tokenizer": (str, type(None))}


@dataclass(frozen=True)
class Corpus:
    """A corpus folder, as its manifest describes it.

    ``tests`` has the fairseq subset of each test set by name, in order, the main one first;
    ``pooled`` says that they are also scored together, as one set ``all``, which is then the one
    that losses are compared on; ``redistributable``, that its text may be kept with results;
    ``normalized``, that punctuation is, of lowercased text.
    ``pairs`` has the number of sentence pairs by subset.
    ``subword_model`` is ``None`` for whole words, and where nobody named the model of data that was
    binarized elsewhere.
    """

    folder: Path
    title: str
    source: str
    target: str
    tokenizer: object
    lowercased: bool
    subwords: object
    subword_model: object
    tests: dict
    pairs: dict
    pooled: bool = False
    normalized: bool = False
    redistributable: bool = True

    @property
    def bin(self):
        """Folder of the binary data."""
        return self.folder / "bin"

    @property
    def remove_bpe(self):
        """Value of fairseq's ``--remove-bpe``, ``None`` for whole words."""
        return {"sentencepiece": "sentencepiece", "subword-nmt": "@@ "}.get(self.subwords)

    @property
    def scored(self):
        """Names of the sets that are scored: ``all`` where there is that, and each test set."""
        return [*([ALL] if self.pooled else []), *self.tests]

    def subsets_of(self, name):
        """fairseq subsets of ``valid`` or of a test set, in order: several for ``all``.

        Raises:
            UserError: there is no such set.
        """
        if name == "valid":
            return [name]
        if name == ALL and self.pooled:
            return list(self.tests.values())
        if name not in self.tests:
            names = [*self.tests, *([ALL] if self.pooled else [])]
            raise UserError(
                f"{self.folder} has no test set {name!r}; it has {', '.join(names)} and valid"
            )
        return [self.tests[name]]

    def text(self, subset, language):
        """Path of the tokenized text of a subset."""
        return self.folder / "text" / f"{subset}.{language}"

    def source_lines(self, name):
        """Plain source sentences of a test set (of all, one after the other; or of ``valid``)."""
        return [
            line
            for subset in self.subsets_of(name)
            for line in self.detokenize(lines_of(self.text(subset, self.source)), self.source)
        ]

    def references(self, name):
        """Plain translations of a test set (of all, or of ``valid``), to score against.

        Those in ``references/`` where there are any, else the corpus's own text, detokenized.
        """
        return [line for subset in self.subsets_of(name) for line in self._references(subset)]

    def _references(self, subset):
        plain = self.folder / "references" / f"{subset}.{self.target}"
        if plain.is_file():
            return lines_of(plain)
        return self.detokenize(lines_of(self.text(subset, self.target)))

    def detokenize(self, lines, language=None):
        """Undo the corpus's tokenization of ``lines`` (of its target language by default)."""
        if self.tokenizer is None:
            return list(lines)
        from . import moses

        return moses.detokenized(lines, language or self.target)

    def as_in_corpus(self, lines, language):
        """Plain ``lines`` of any language in the form of the corpus's text."""
        from . import moses

        if self.normalized:
            lines = moses.normalized(lines, language)
        if self.tokenizer == "moses":
            lines = moses.tokenized(lines, language)
        return [moses.lowercase(line) if self.lowercased else line for line in lines]


def read(folder):
    """The :class:`Corpus` in a folder.

    Raises:
        UserError: there is none, or its manifest is damaged.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    manifest = read_json(path, ADVICE)
    for key, kind in _KEYS.items():
        if key not in manifest or not isinstance(manifest[key], kind):
            raise UserError(f"{path} is damaged ({key!r} is not as expected): {ADVICE}")
    subwords = manifest.get("subwords")
    return Corpus(
        folder=folder,
        title=manifest.get("corpus", folder.name),
        source=manifest["source"],
        target=manifest["target"],
        tokenizer=manifest["tokenizer"],
        lowercased=bool(manifest.get("lowercased")),
        subwords=subwords,
        subword_model=_subword_model(folder, subwords),
        tests=manifest.get("tests", {"test": "test"}),
        pairs=manifest.get("pairs", {}),
        pooled=bool(manifest.get(ALL)),
        normalized=bool(manifest.get("normalized")),
        redistributable=manifest.get("redistributable", True),
    )


def _subword_model(folder, subwords):
    path = folder / "bpe" / MODELS.get(subwords, "")
    return path if path.is_file() else None


def versions():
    """Versions of Python and of those tools that are installed."""
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            found[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return found


def checksums(folder):
    """SHA-256 of each output below a corpus folder, by its path; logs, which hold times, aside."""
    paths = (path for name in FOLDERS for path in Path(folder, name).rglob("*"))
    return {
        path.relative_to(folder).as_posix(): checksum(path, "sha256").partition(":")[2]
        for path in sorted(paths)
        if path.is_file() and path.suffix != ".log"
    }


def types_of(dictionary):
    """Number of types of a fairseq dictionary as fairseq counts: with its four special symbols."""
    with Path(dictionary).open("rb") as file:
        return 4 + sum(1 for _ in file)


def finished(manifest, folder):
    """The manifest of a corpus that is made, with what its files say: types, versions, checksums.

    Where ``manifest`` has ``expected``, the counts of the published data by subset and as ``types
    LANGUAGE``, what differs is told in ``warnings``.
    """
    types = {
        side: types_of(Path(folder, "bin", f"dict.{side}.txt"))
        for side in (manifest["source"], manifest["target"])
    }
    counts = {**manifest["pairs"], **{f"types {side}": number for side, number in types.items()}}
    return {
        **manifest,
        "types": types,
        "warnings": [
            f"{name}: {counts[name]:,}, expected {count:,}: this is not the published data set"
            for name, count in manifest.get("expected", {}).items()
            if counts[name] != count
        ],
        "versions": versions(),
        "sha256": checksums(folder),
    }
