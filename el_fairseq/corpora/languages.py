"""Languages that write without spaces: how long their sentences are, and how they are scored.

A language is a code of ISO 639, two letters or three, with or without a script or region (``zh``,
``zho_Hans``, ``zh_TW``).
"""

import re
import unicodedata

from ..common.cli import UserError

# sacreBLEU's tokenizer for each language that has one of its own, or that needs characters, as
# sacreBLEU's command line chooses; it knows only the codes of two letters.
_TOKENIZERS = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "lzh", "yue", "wuu", "cn"), "zh"),
    **dict.fromkeys(("ja", "jpn", "jp"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "km", "khm", "lo", "lao", "my", "mya", "bur"), "char"),
}


def _tokenizer(language):
    return _TOKENIZERS.get(re.split("[_-]", language)[0].lower(), "13a")


def writes_without_spaces(language):
    """True for Chinese, Japanese, Thai, Khmer, Lao and Burmese."""
    return _tokenizer(language) in ("zh", "ja-mecab", "char")


def sacrebleu_tokenizer(language):
    """Value of sacreBLEU's ``tokenize`` for translations into ``language``.

    ``13a``, as everywhere, but ``zh``, ``ja-mecab`` and ``ko-mecab`` for Chinese, Japanese and
    Korean, and ``char`` for the other languages without spaces.

    Raises:
        UserError: the tokenizer needs a package that is not installed.
    """
    from sacrebleu.metrics import BLEU

    tokenizer = _tokenizer(language)
    try:
        BLEU(tokenize=tokenizer)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"BLEU of translations into {language}: {reason}") from None
    return tokenizer


def characters_in(sentence):
    """Length of a sentence in characters without spaces; a wide one (Chinese, Japanese) is two.

    So that translations are about equally long, whatever their scripts.
    """
    letters = (character for character in sentence if not character.isspace())
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in letters)
