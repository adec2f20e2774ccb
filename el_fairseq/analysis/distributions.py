"""Means, quantiles and histograms of what was measured of each token."""

import numpy as np

QUANTITIES = (
    "log_prob",
    "prob",
    "rank",
    "entropy",
    "energy",
    "free_energy",
    "margin",
    "relative_energy",
    "relative_margin",
    "logit_std",
)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 60


def add_relative(columns):
    """Add energy and margin in units of the standard deviation of the token's logits.

    The relative energy is taken from the free energy, ``(-f(x)[y] + logsumexp f(x)) / std``:
    logits are free up to a constant per position, so the raw one has no scale of its own.
    """
    columns["relative_margin"] = columns["margin"] / columns["logit_std"]
    columns["relative_energy"] = -columns["log_prob"] / columns["logit_std"]


def common_edges(columns_of_models):
    """Histogram edges of each quantity, the same for all models, so that they can be compared.

    From the lowest 0.5 % quantile of any model to the highest 99.5 %.
    """
    edges = {}
    for name in QUANTITIES:
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
    """Mean, median, quantiles and histogram of each quantity.

    What lies outside a histogram's edges is counted in ``below`` and ``above``.
    """
    quantities = {}
    for name in QUANTITIES:
        values = columns[name].astype(np.float64)
        counts, _ = np.histogram(values, edges[name])
        quantities[name] = {
            "mean": values.mean(),
            "std": values.std(),
            "median": np.median(values),
            "quantiles": {str(q): np.quantile(values, q) for q in QUANTILES},
            "histogram": {
                "bin_edges": edges[name],
                "tokens": counts,
                "below": int((values < edges[name][0]).sum()),
                "above": int((values > edges[name][-1]).sum()),
            },
        }
    return quantities
