"""Translations to scores. :data:`SCORES` is the one list of them.

To add a score (COMET, say), write a function from a :class:`Translation` to its value and
signature, and add an entry to :data:`SCORES`: tables, report and kept results have it then.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

import sacrebleu

from ..common.cli import UserError
from ..common.files import lines_of
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
    """A score of a translation of a whole test set."""

    key: str  # its name in scores.json
    name: str  # its name in tables
    higher_is_better: bool
    form: str  # how str.format shows it
    origin: str  # who computes it, on what text
    # Of a Translation to (value, signature), or None where the score is not defined.
    compute: Callable


def bleu_metric(language, **options):
    """sacreBLEU's BLEU for translations into a language."""
    return sacrebleu.BLEU(tokenize=sacrebleu_tokenizer(language), **options)


def _by_sacrebleu(metric, translation):
    score = metric.corpus_score(translation.hypotheses, [translation.references]).score
    return score, str(metric.get_signature())


def _bleu(translation):
    return _by_sacrebleu(bleu_metric(translation.language), translation)


def _chrf(translation):
    return _by_sacrebleu(sacrebleu.CHRF(), translation)


def _ter(translation):
    tokenizer = sacrebleu_tokenizer(translation.language)
    if tokenizer == "char":  # asian_support does not know these: their characters apart
        hypotheses, references = (
            [" ".join(line.replace(" ", "")) for line in lines]
            for lines in (translation.hypotheses, translation.references)
        )
        translation = replace(translation, hypotheses=hypotheses, references=references)
    cjk = tokenizer in ("zh", "ja-mecab")
    return _by_sacrebleu(sacrebleu.TER(normalized=cjk, asian_support=cjk), translation)


def fairseq_bleu(translation):
    """BLEU that fairseq-generate printed at the end, on tokens: for comparison with papers.

    Not defined for languages without spaces: whole sentences would be its tokens.
    """
    if translation.generated is None or writes_without_spaces(translation.language):
        return None
    printed = Path(translation.generated).read_text("utf-8")
    values = re.findall(r"^Generate .* BLEU4 = ([\d.]+),", printed, re.M)
    return (float(values[-1]), None) if values else None


PLAIN = "sacreBLEU, on plain (detokenized) text"
TOKENS = "fairseq-generate, on tokens"
SCORES = [
    Score("bleu", "BLEU", True, "{:.2f}", PLAIN, _bleu),
    Score("chrf", "chrF", True, "{:.2f}", PLAIN, _chrf),
    Score("ter", "TER", False, "{:.2f}", PLAIN, _ter),
    Score("tokenized_bleu", "tokenized BLEU", True, "{:.2f}", TOKENS, fairseq_bleu),
]


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
    """The translations of a test set of ``count`` sentences, in its order, from the
    ``generate-SUBSET.txt`` that fairseq-generate wrote."""
    lines = (line.split("\t", 2) for line in lines_of(generated) if line.startswith("H-"))
    translated = sorted((int(name[2:]), text) for name, _, text in lines)
    numbers = [number for number, _ in translated]
    if numbers != list(range(count)):
        missing = ", ".join(map(str, sorted(set(range(count)) - set(numbers))[:10])) or "none"
        raise UserError(
            f"{generated} holds {len(translated)} translations for {count} references (the first "
            f"missing, counted from 0: {missing}): a part of a test set is not scored"
        )
    return [text for _, text in translated]
