"""Pictures of an analysis.json, and what numbers look like in words and tables."""

import math

from jinja2 import Undefined

from . import figures

CLASSES = {"many": "frequent", "medium": "medium", "few": "rare", "special": "sentence end"}
# What stands for a number that is not there, or not finite.
NONE = "\u2013"


def drawings(analysis):
    """The pictures of an analysis by name, each a function of a theme."""
    models = analysis["models"]
    last = list(models.values())[-1]["by_target_probability"]
    classes = [name for name in CLASSES if any(name in m["by_frequency"] for m in models.values())]
    drawn = {
        "margins": figures.histogram(models, "margin", "margin (logits)", zero="right from here"),
        "margins-relative": figures.histogram(
            models,
            "relative_margin",
            "margin (standard deviations of the logits)",
            zero="right from here",
        ),
        "energies": figures.histogram(models, "energy", "raw energy -f(x)[y] (logits)"),
        "energies-relative": figures.histogram(
            models, "log_prob", "energy - free energy = -log p (nats)", sign=-1, log=True
        ),
        "gradient": figures.bars(
            [f"{low:.1f}" for low in last["bin_edges"][:-1]],
            {"CE": last["gradient_ce"], "EL": last["gradient_el"]},
            "share of the gradient",
            "probability of the right token, from",
        ),
        "reliability": figures.reliability(models),
        "confidence": figures.confidence(models),
        "frequency": figures.bars(
            [CLASSES[name] for name in classes],
            {
                name: [
                    model["by_frequency"].get(key, {"accuracy": None})["accuracy"]
                    for key in classes
                ]
                for name, model in models.items()
            },
            "accuracy",
        ),
    }
    for number, found in enumerate(analysis["ood"].values(), start=1):
        drawn[f"roc-{number}"] = figures.roc(found["models"], "mean_log_prob")
    noise = analysis.get("noise", {})
    if "characters" in noise:
        for quantity, label in (("accuracy", "accuracy"), ("bleu", "BLEU")):
            drawn[f"noise-{quantity}"] = figures.against_noise(
                noise["characters"],
                "rates",
                quantity,
                label,
                "characters with noise in the source",
            )
    if "gradient_sign" in noise:
        drawn["noise-gradient"] = figures.against_noise(
            noise["gradient_sign"],
            "strengths",
            "accuracy",
            "accuracy",
            "step (standard deviations of the embeddings)",
        )
    return drawn


def number(value, form, missing=NONE):
    """A number in a form of ``format``, such as ``.2%``."""
    absent = value is None or isinstance(value, Undefined)
    if absent or (isinstance(value, float) and not math.isfinite(value)):
        return missing
    return format(value, form)


def each(found, form, *path):
    """A value of each model in words, ``1.20 (CE), 1.50 (EL)``; ``path`` leads to it."""
    words = []
    for name, value in found.items():
        for key in path:
            value = value[key]
        words.append(f"{number(value, form)} ({name})")
    return ", ".join(words)


def interval(measured, form):
    """``value [low, high]`` of a dict of these."""
    value, low, high = (number(measured[key], form) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def spread(quantity, sign):
    """Mean and quantiles of a quantity (or of its negative) as cells of a table."""
    quantiles = [quantity["quantiles"][q] for q in ("0.05", "0.25", "0.5", "0.75", "0.95")]
    values = [quantity["mean"], *quantiles[::sign]]
    return [number(v if v is None else sign * v or 0.0, ".3f") for v in values]


def kept(curves, quantity):
    """Share of a quantity that each model keeps at the end of a noise curve."""
    ends = {
        name: (found[quantity]["value"][0], found[quantity]["value"][-1])
        for name, found in curves.items()
    }
    return {name: last / first if first else None for name, (first, last) in ends.items()}
