"""Translations to scores. :data:`SCORES` is the one list of them.

To add a score (COMET, say), write a function from a :class:`Translation` to its value and
signature, and add an entry to :data:`SCORES`: tables, report and kept results have it then.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

import sacrebleu

from ..common.cli import UserError
from ..corpora.languages import sacrebleu_tokenizer, writes_without_spaces


@dataclass(frozen=True)
class Translation:
    """A test set and its translation: plain lines, ``language`` (the target's), and the file that
    fairseq-generate wrote (``None`` for several test sets together)."""

    sources: list
    hypotheses: list
    references: list
    language: str
    generated: Optional[Path] = None


@dataclass(frozen=True)
class Score:
    """A score of a translation of a whole test set.

    Attributes:
        key: its name in ``scores.json``.
        name: its name in tables.
        higher_is_better: which way is up.
        form: how ``str.format`` shows it.
        origin: who computes it, on what text.
        compute: function of a :class:`Translation` to ``(value, signature)``; ``None`` where the
            score is not defined.
        metric: function of a language, and options of sacreBLEU's metric, to that metric; ``None``
            for a score that is none of sacreBLEU's.
    """

    key: str
    name: str
    higher_is_better: bool
    form: str
    origin: str
    compute: Callable
    metric: Optional[Callable] = None


def _by_sacrebleu(key, name, higher_is_better, metric, lines=lambda lines, language: lines):
    def compute(translation):
        language = translation.language
        made = metric(language)
        texts = [lines(text, language) for text in (translation.hypotheses, translation.references)]
        value = made.corpus_score(texts[0], [texts[1]]).score
        return value, str(made.get_signature())

    plain = "sacreBLEU, on plain (detokenized) text"
    return Score(key, name, higher_is_better, "{:.2f}", plain, compute, metric)


def fairseq_bleu(translation):
    """BLEU that fairseq-generate printed at the end, on tokens: for the literature's sake.

    Of languages without spaces there is none: whole sentences would be its tokens.
    """
    if translation.generated is None or writes_without_spaces(translation.language):
        return None
    printed = Path(translation.generated).read_text("utf-8")
    values = re.findall(r"^Generate .* BLEU4 = ([\d.]+),", printed, re.M)
    return (float(values[-1]), None) if values else None


def _bleu(language, **options):
    return sacrebleu.BLEU(tokenize=sacrebleu_tokenizer(language), **options)


def _chrf(language, **options):
    return sacrebleu.CHRF(**options)


def _ter(language, **options):
    if sacrebleu_tokenizer(language) in ("zh", "ja-mecab"):
        options.update(normalized=True, asian_support=True)
    return sacrebleu.TER(**options)


def _ter_lines(lines, language):
    """Characters apart in those languages without spaces that ``asian_support`` does not know."""
    if sacrebleu_tokenizer(language) != "char":
        return lines
    return [" ".join(line.replace(" ", "")) for line in lines]


TOKENS = "fairseq-generate, on tokens"
SCORES = [
    _by_sacrebleu("bleu", "BLEU", True, _bleu),
    _by_sacrebleu("chrf", "chrF", True, _chrf),
    _by_sacrebleu("ter", "TER", False, _ter, _ter_lines),
    Score("tokenized_bleu", "tokenized BLEU", True, "{:.2f}", TOKENS, fairseq_bleu),
]


def score_of(key):
    """The :class:`Score` with that key."""
    return next(score for score in SCORES if score.key == key)


def scores(translation):
    """Every score of a translation that is defined: ``{key: value, key_signature: signature}``."""
    values = {"sentences": len(translation.references)}
    for score in SCORES:
        computed = score.compute(translation)
        if computed is not None:
            value, signature = computed
            values[score.key] = round(value, 2)
            if signature is not None:
                values[f"{score.key}_signature"] = signature
    return values


def shown(values):
    """Lines that show what :func:`scores` returned."""
    lines = []
    for score in SCORES:
        if score.key in values:
            value = score.form.format(values[score.key])
            origin = values.get(f"{score.key}_signature", score.origin)
            lines.append(f"{score.name:14} {value:>6}  {origin}")
    return [*lines, f"{values['sentences']} sentences"]


def hypotheses(generated, count):
    """The translations in what fairseq-generate wrote, in the order of the test set.

    Args:
        generated: path of ``generate-SUBSET.txt``.
        count: how many sentences the test set holds.
    """
    translated = []
    with Path(generated).open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if line.startswith("H-"):
                number, _, text = line.rstrip("\n").split("\t", 2)
                translated.append((int(number[2:]), text))
    missing = sorted(set(range(count)) - {number for number, _ in translated})
    if missing or len(translated) != count:
        some = ", ".join(str(number) for number in missing[:10]) + (", ..." * (len(missing) > 10))
        raise UserError(
            f"{generated} holds {len(translated)} translations for {count} references"
            + (f"; sentences (counted from 0) {some} are missing" if missing else "")
            + ": a part of a test set is not scored"
        )
    return [text for _, text in sorted(translated)]
