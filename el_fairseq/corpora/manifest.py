"""What a corpus is: the one reader of ``manifest.json``.

A corpus is a folder: ``text/`` (tokenized, ``SUBSET.LANGUAGE``), ``bpe/`` (in subwords, with
their model), ``bin/`` (what fairseq reads), and ``manifest.json``. Subsets are fairseq's:
``train``, ``valid``, ``test``, ``test1``, ...; test sets also have names of their own.
"""

from dataclasses import dataclass, fields
from pathlib import Path

from ..common.cli import UserError
from ..common.files import lines_of, read_json
from . import moses
from .subwords import MODELS, REMOVE_BPE

ADVICE = (
    "prepare the corpus (bash data-prep/..., see --help of each; data-bin.sh for data that "
    "fairseq-preprocess made), or name it by --data"
)
# Name of all test sets of a corpus together, scored as one where the manifest says so.
ALL = "all"


@dataclass(frozen=True)
class Corpus:
    """A corpus folder, as its manifest describes it."""

    folder: Path
    source: str
    target: str
    tokenizer: object  # "moses" or None
    tests: dict  # fairseq's subset of each test set by name, the main one first
    pairs: dict  # number of sentence pairs by subset
    subwords: object = None  # "sentencepiece", "subword-nmt" or None
    lowercased: bool = False
    pooled: bool = False  # test sets are also scored as one, all, on which losses are compared
    normalized: bool = False  # lowercased text, in its punctuation
    redistributable: bool = True  # text may be kept with results

    @property
    def bin(self):
        """Folder of the binary data."""
        return self.folder / "bin"

    @property
    def remove_bpe(self):
        """Value of fairseq's ``--remove-bpe``, ``None`` for whole words."""
        return REMOVE_BPE.get(self.subwords)

    @property
    def subword_model(self):
        """Path of the subword model; ``None`` where the corpus holds none."""
        path = self.folder / "bpe" / MODELS.get(self.subwords, "")
        return path if path.is_file() else None

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
            names = ", ".join(self.scored)
            raise UserError(f"{self.folder} has no test set {name!r}; it has {names} and valid")
        return [self.tests[name]]

    def text(self, subset, language):
        """Path of the tokenized text of a subset."""
        return self.folder / "text" / f"{subset}.{language}"

    def plain(self, name, language):
        """Plain sentences of a test set (of all, or of ``valid``), in one of the two languages.

        Those in ``references/`` where there are any, else the corpus's own text, detokenized.
        """
        lines = []
        for subset in self.subsets_of(name):
            plain = self.folder / "references" / f"{subset}.{language}"
            text = lines_of(self.text(subset, language))
            lines += lines_of(plain) if plain.is_file() else self.detokenize(text, language)
        return lines

    def detokenize(self, lines, language):
        """Undo the corpus's tokenization of ``lines`` of a language."""
        return list(lines) if self.tokenizer is None else moses.detokenized(lines, language)

    def as_in_corpus(self, lines, language):
        """Plain ``lines`` of any language in the form of the corpus's text."""
        form = self.tokenizer, self.lowercased, self.normalized
        return list(moses.in_form(lines, language, *form))


def read(folder):
    """The :class:`Corpus` in a folder.

    Raises:
        UserError: there is none, or its manifest is damaged.
    """
    path = Path(folder, "manifest.json")
    made = {"tests": {"test": "test"}, "pairs": {}, **read_json(path, ADVICE)}
    made["pooled"] = made.get(ALL, False)
    known = {field.name: made[field.name] for field in fields(Corpus) if field.name in made}
    try:
        return Corpus(folder=Path(folder), **known)
    except TypeError as error:
        raise UserError(f"{path} is damaged ({error}): {ADVICE}") from None
