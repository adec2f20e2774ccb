"""Moses tokenization and lowercasing, by sacremoses."""

import functools
import re

import sacremoses

from .languages import writes_without_spaces

_LAST_PERIOD = re.compile(r"(?<=[^\s.])\.$")
# What the tokenizer writes for characters that mean something to Moses, or one character.
_CHARACTER = re.compile(r"&(?:amp|apos|quot|lt|gt|#124|#91|#93);|.", re.DOTALL)
_NOT_LATIN = "[^\x00-\u024f]"
_SPACE_TO_DROP = re.compile(f"(?<={_NOT_LATIN}) | (?={_NOT_LATIN})")


@functools.lru_cache(maxsize=None)
def _tokenizer(language):
    return sacremoses.MosesTokenizer(language)


def tokenize(sentence, language):
    """Tokenize one sentence as Moses' Perl script does.

    sacremoses leaves the period on a last word that is an abbreviation or a single letter ("in
    the U.S."); the script makes it a token of its own, and so does this.
    """
    tokens = _tokenizer(language).tokenize(sentence, return_str=True)
    return _LAST_PERIOD.sub(" .", tokens)


def detokenized(lines, language):
    """Plain text of tokenized ``lines``, by sacremoses.

    In languages without spaces, the remaining spaces beside their characters are also removed.
    """
    detokenizer = sacremoses.MosesDetokenizer(language)
    plain = [detokenizer.detokenize(line.split(" ")) for line in lines]
    if writes_without_spaces(language):
        return [_SPACE_TO_DROP.sub("", line) for line in plain]
    return plain


def characters(text):
    """The characters of tokenized text, in which an escape such as ``&apos;`` is one."""
    return _CHARACTER.findall(text)


def lowercase(text):
    """Lowercase as Moses' script does: each character by itself.

    ``str.lower`` alone looks at the neighbours of a capital sigma.
    """
    return "".join(map(str.lower, text))


def in_form(lines, language, tokenizer=None, lowercased=False, normalized=False):
    """Yield plain ``lines`` in the form of a corpus's text, which its manifest says by these keys.

    ``normalized``: lowercased first, then with punctuation as Moses' script normalizes it.
    """
    if normalized:
        normalizer = sacremoses.MosesPunctNormalizer(language, perl_parity=True)
        lines = (normalizer.normalize(lowercase(line)) for line in lines)
    if tokenizer:
        lines = (tokenize(line, language) for line in lines)
    return (lowercase(line) if lowercased else line for line in lines)
