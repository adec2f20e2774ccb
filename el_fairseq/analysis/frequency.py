"""Accuracy and margins by how often a token was seen in training."""

import numpy as np
from scipy.stats import binomtest

CLASSES = ("frequent", "medium", "rare")
# Of the symbols without a count: the end of a sentence, the unknown token.
SPECIAL = "special"
NO_COUNT = -1


def token_counts(dictionary):
    """Training count of each entry of a fairseq dictionary, ``NO_COUNT`` for its special symbols.

    The end of a sentence and the unknown token are among those: fairseq writes no count for them.
    The counts of a joined dictionary are of both languages.
    """
    counts = np.array(dictionary.count, dtype=np.int64)
    counts[: dictionary.nspecial] = NO_COUNT
    return counts


def frequency_bounds(counts):
    """Least counts of the classes: tertiles of the training tokens.

    Going from the most frequent entry down, ``frequent`` are the entries that make up the first
    third of all training tokens, ``medium`` the second, ``rare`` the rest. Entries with equal
    counts stay together, so the thirds are as even as the counts allow.
    """
    known = np.sort(counts[counts > 0])[::-1]
    if not len(known):
        return {"frequent": 1, "medium": 1, "rare": 0}
    share = np.cumsum(known) / known.sum()
    return {
        "frequent": int(known[np.searchsorted(share, 1 / 3)]),
        "medium": int(known[np.searchsorted(share, 2 / 3)]),
        "rare": 0,
    }


def class_of(counts, bounds):
    """Index into ``CLASSES`` for each count, -1 where there is no count."""
    classes = np.where(counts >= bounds["frequent"], 0, np.where(counts >= bounds["medium"], 1, 2))
    return np.where(counts == NO_COUNT, -1, classes)


def describe_bounds(counts, bounds):
    """For each class: least and greatest count, entries, and share of the training tokens."""
    classes = class_of(counts, bounds)
    total = counts[counts > 0].sum()
    description = {}
    for index, name in enumerate(CLASSES):
        inside = counts[classes == index]
        description[name] = {
            "least_count": int(inside.min()) if len(inside) else None,
            "greatest_count": int(inside.max()) if len(inside) else None,
            "entries": len(inside),
            "share_of_training_tokens": float(inside.sum() / total),
        }
    return description


def by_frequency(columns, bounds):
    """Accuracy, mean probability and median margin of each class, and of symbols without a count.

    The accuracy has Wilson's 95 % interval, which takes tokens as independent of each other.
    """
    classes = class_of(columns["frequency"], bounds)
    rows = {}
    for name, index in [*zip(CLASSES, range(3)), (SPECIAL, -1)]:
        inside = classes == index
        if inside.any():
            right = int(columns["correct"][inside].sum())
            tokens = int(inside.sum())
            interval = binomtest(right, tokens).proportion_ci(method="wilson")
            rows[name] = {
                "tokens": tokens,
                "accuracy": {"value": right / tokens, "low": interval.low, "high": interval.high},
                "prob": float(columns["prob"][inside].mean()),
                "median_margin": float(np.median(columns["margin"][inside])),
            }
    return rows
