"""The report's pictures: each function returns a PNG, of numbers as analysis.json holds them.

``None`` stands there for a number that is not finite.
"""

import io

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

# Colours for any colour vision; line styles, so that a print in black and white tells models apart.
style.use(["seaborn-v0_8-whitegrid", "petroff10"])
LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)), (0, (1, 1)))


def panel(width=5.4, height=3.4, columns=1):
    """The axes of a small picture, one or several, to be filled, then rendered by :func:`png`."""
    return Figure(figsize=(width, height), layout="constrained").subplots(1, columns)


def png(axes):
    """The picture that the axes are in, as the bytes of a PNG."""
    file = io.BytesIO()
    axes.figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def line(index):
    """Colour and line style of the model with this number."""
    return {"color": f"C{index}", "linestyle": LINES[index % len(LINES)]}


def lines(series, x, y, percent="", dots=4, diagonal=False, drawstyle="default", **properties):
    """Lines, each ``(name, xs, ys)`` or ``(name, xs, ys, errors)``; equal names look equal.

    ``percent`` names the axes that show shares, such as ``"xy"``; ``dots`` is the size of points;
    ``diagonal`` adds the line from (0, 0) to (1, 1); ``properties`` are those of the axes.
    """
    names = list(dict.fromkeys(name for name, *_ in series))
    axes = panel()
    if diagonal:
        axes.axline((0, 0), (1, 1), color="black", linewidth=0.9)
    for name, *points in series:
        looks = {"marker": "o", "markersize": dots, "capsize": 3, "drawstyle": drawstyle}
        axes.errorbar(*points, **line(names.index(name)), **looks, label=name)
    axes.set(xlabel=x, ylabel=y, **properties)
    for name in percent:
        axis = getattr(axes, f"{name}axis")
        axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles))
    axes.legend(named.values(), named)
    return png(axes)


def histogram(models, quantity, label, sign=1, percent="y", **properties):
    """Share of tokens a bin, one outline a model."""
    series = []
    for name, model in models.items():
        bins = model["quantities"][quantity]["histogram"]
        share = np.array(bins["tokens"]) / (sum(bins["tokens"]) + bins["below"] + bins["above"])
        series.append((name, sign * np.array(bins["bin_edges"]), [*share, 0]))
    outline = {"dots": 0, "drawstyle": "steps-post", **properties}
    return lines(series, label, "share of tokens", percent, **outline)


def with_intervals(models, at, *labels, **options):
    """Values of each model, dicts of ``value``, ``low`` and ``high``, at places on the x-axis."""
    series = []
    for index, (name, measured) in enumerate(models.items()):
        value, low, high = np.array(
            [[one[key] for one in measured] for key in ("value", "low", "high")], dtype=float
        )
        beside = np.array(at) + 0.01 * np.ptp(at) * (index - (len(models) - 1) / 2)
        # The middle of a bootstrap interval is not quite the value.
        series.append((name, beside, value, np.maximum([value - low, high - value], 0)))
    return lines(series, *labels, xticks=at, ylim=(0, None), **options)


def reliability(models):
    """Accuracy over confidence; the diagonal is a model that is right as often as it says."""
    series = []
    for name, model in models.items():
        bins = model["calibration"]["reliability"]
        points = np.array([bins["confidence"], bins["accuracy"]], dtype=float)
        series.append((name, *points[:, np.isfinite(points).all(0)]))
    labels = "probability of the model's first choice", "how often it is right"
    return lines(series, *labels, "xy", diagonal=True)


def roc(models, score):
    """ROC curve of each model for one score of sentences."""
    series = [
        (name, *(of[score]["roc"][rate] for rate in ("fpr", "tpr"))) for name, of in models.items()
    ]
    x, y = (f"{which} sentences accepted" for which in ("out-of-domain", "in-domain"))
    return lines(series, x, y, "xy", dots=0, diagonal=True)


def of_runs(curves):
    """The pictures of the training of runs, ``(loss, curves)`` pairs, by name."""
    labels = {
        "train_nll": "training nll (bits a token)",
        "valid_nll": "validation nll (bits a token)",
        "valid_accuracy": "validation accuracy (%)",
    }
    drawn = {}
    for quantity, label in labels.items() if curves else ():
        series = [(loss, of_run["updates"], of_run[quantity]) for loss, of_run in curves]
        drawn[quantity] = lines(series, "updates", label, dots=3)
    return drawn


def of_analysis(analysis):
    """The pictures of an ``analysis.json`` by name."""
    models = analysis["models"]
    classes = list(next(iter(models.values()))["by_frequency"])
    accuracies = {
        name: [model["by_frequency"][one]["accuracy"] for one in classes]
        for name, model in models.items()
    }
    deviations = "margin (standard deviations of the logits)"
    surprise = "energy - free energy = -log p (nats)"
    drawn = {
        "margins": histogram(models, "margin", "margin (logits)"),
        "margins-relative": histogram(models, "relative_margin", deviations),
        "energies": histogram(models, "energy", "raw energy -f(x)[y] (logits)"),
        "energies-relative": histogram(models, "log_prob", surprise, -1, "", yscale="log"),
        "reliability": reliability(models),
        "confidence": histogram(models, "confidence", "probability of the model's first choice"),
        "frequency": with_intervals(
            accuracies, range(len(classes)), "", "accuracy", "y", xticklabels=classes
        ),
    }
    for number, one in enumerate(analysis["ood"].values(), start=1):
        drawn[f"roc-{number}"] = roc(one["models"], "mean_log_prob")
    if "noise" in analysis:
        curves = analysis["noise"]["characters"]
        x, at = "characters with noise in the source", next(iter(curves.values()))["rates"]
        for quantity, label, percent in (("accuracy", "accuracy", "xy"), ("bleu", "BLEU", "x")):
            measured = {name: curve[quantity] for name, curve in curves.items()}
            drawn[f"noise-{quantity}"] = with_intervals(measured, at, x, label, percent)
    return drawn
