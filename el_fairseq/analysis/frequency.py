"""Accuracy and margins by how often a token was seen in training."""

import numpy as np
from scipy.stats import binomtest

CLASSES = ("frequent", "medium", "rare")
# The class of symbols without a count: the end of a sentence, the unknown token.
SPECIAL = "special"
NO_COUNT = -1


def token_counts(dictionary):
    """Training count of each entry of a fairseq dictionary, ``NO_COUNT`` for its special symbols.

    The end of a sentence and the unknown token are special: fairseq writes no count for them. A
    joined dictionary counts both languages together.
    """
    counts = np.array(dictionary.count, dtype=np.int64)
    counts[: dictionary.nspecial] = NO_COUNT
    return counts


def frequency_bounds(counts):
    """Lowest counts of ``frequent`` and ``medium`` entries: tertiles of the training tokens.

    Sorted by frequency, the first entries that make up a third of all training tokens are
    ``frequent``, the next third ``medium``, the rest ``rare``. Entries with equal counts stay
    together, so the thirds are as equal as the counts allow.
    """
    known = np.sort(counts[counts > 0])[::-1]
    if not len(known):
        return 1, 1
    share = np.cumsum(known) / known.sum()
    return tuple(int(known[np.searchsorted(share, third)]) for third in (1 / 3, 2 / 3))


def class_of(counts, bounds):
    """The class of each count; ``SPECIAL`` for entries without a count."""
    frequent, medium = bounds
    conditions = counts == NO_COUNT, counts >= frequent, counts >= medium
    return np.select(conditions, [SPECIAL, *CLASSES[:2]], CLASSES[2])


def describe_bounds(counts, bounds):
    """For each class that has entries: lowest and highest count, and number of entries."""
    classes = class_of(counts, bounds)
    inside = {name: counts[classes == name] for name in CLASSES}
    return {
        name: {"least_count": some.min(), "greatest_count": some.max(), "entries": len(some)}
        for name, some in inside.items()
        if len(some)
    }


def by_frequency(columns, bounds):
    """Accuracy, mean probability and median margin of each class, and of symbols without a count.

    The accuracy has Wilson's 95 % interval, which assumes that tokens are independent.
    """
    classes = class_of(columns["frequency"], bounds)
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
