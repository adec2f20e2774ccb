"""Accuracy and margins by how often a token was seen in training."""

import numpy as np
from scipy.stats import binomtest

CLASSES = ("frequent", "medium", "rare")
# The class of symbols without a count: the end of a sentence, the unknown token.
SPECIAL = "special"
NO_COUNT = -1


def token_counts(dictionary):
    """Training count of each entry of a fairseq dictionary, ``NO_COUNT`` for its special symbols.

    A joined dictionary counts both languages together.
    """
    counts = np.array(dictionary.count, dtype=np.int64)
    counts[: dictionary.nspecial] = NO_COUNT
    return counts


def classes_of(counts):
    """The class of each entry of a dictionary: tertiles of the training tokens.

    Sorted by frequency, the first entries that make up a third of all training tokens are
    ``frequent``, the next third ``medium``, the rest ``rare``. Entries with equal counts stay
    together, so the thirds are as equal as the counts allow. Those without a count are ``SPECIAL``.
    """
    known, frequent, medium = np.sort(counts[counts > 0])[::-1], 1, 1
    if len(known):
        share = np.cumsum(known) / known.sum()
        frequent, medium = (known[np.searchsorted(share, third)] for third in (1 / 3, 2 / 3))
    conditions = counts == NO_COUNT, counts >= frequent, counts >= medium
    return np.select(conditions, [SPECIAL, *CLASSES[:2]], CLASSES[2])


def describe(counts, classes):
    """For each class that has entries: lowest and highest count, and number of entries."""
    return {
        name: {"least_count": some.min(), "greatest_count": some.max(), "entries": len(some)}
        for name in CLASSES
        for some in [counts[classes == name]]
        if len(some)
    }


def by_frequency(columns, classes):
    """Accuracy, mean probability and median margin by class, from token columns and their classes.

    The accuracy has Wilson's 95 % interval, which assumes that tokens are independent.
    """
    rows = {}
    for name in (*CLASSES, SPECIAL):
        inside = classes == name
        if inside.any():
            right, tokens = int(columns["correct"][inside].sum()), int(inside.sum())
            interval = binomtest(right, tokens).proportion_ci(method="wilson")
            rows[name] = {
                "tokens": tokens,
                "accuracy": {"value": right / tokens, "low": interval.low, "high": interval.high},
                "prob": columns["prob"][inside].mean(),
                "median_margin": np.median(columns["margin"][inside]),
            }
    return rows
