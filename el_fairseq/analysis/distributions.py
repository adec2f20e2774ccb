"""Means, quantiles and histograms of the measures of tokens."""

import numpy as np

from .tokens import MEASURES

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 60


def common_edges(columns_of_models):
    """Histogram edges of each measure, the same for all models, so that they can be compared.

    From the lowest 0.5 % quantile of any model to the highest 99.5 %.
    """
    edges = {}
    for name in MEASURES:
        ends = np.array(
            [
                np.quantile(columns[name][np.isfinite(columns[name])], (0.005, 0.995))
                for columns in columns_of_models
            ]
        )
        low, high = ends.min(), ends.max()
        edges[name] = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
    return edges


def summary(columns, edges):
    """Mean, median, quantiles and histogram of each measure.

    What lies outside a histogram's edges is counted in ``below`` and ``above``.
    """
    found = {}
    for name, measured in edges.items():
        values = columns[name].astype(np.float64)
        counts, _ = np.histogram(values, measured)
        found[name] = {
            "mean": values.mean(),
            "median": np.median(values),
            "quantiles": {str(q): np.quantile(values, q) for q in QUANTILES},
            "histogram": {
                "bin_edges": measured,
                "tokens": counts,
                "below": int((values < measured[0]).sum()),
                "above": int((values > measured[-1]).sum()),
            },
        }
    return found
