"""The report's pictures: each function returns a PNG, of numbers as analysis.json holds them.

``None`` stands there for a number that is not finite.
"""

import functools
import io
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.figure import Figure

PAGE, INK, FAINT = "#ffffff", "#1d2229", "#c9ced6"
# Okabe and Ito's colours, distinguishable with any colour vision; and line styles, so that a
# print in black and white still tells the models apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0559a", "#806000", "#444444")
LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)), (0, (1, 1)))
SETTINGS = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.alpha": 0.5,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "font.size": 10.5,
}


@contextmanager
def panel(width=5.4, height=3.4, columns=1):
    """A small figure and its axes, one or several, to be filled, then rendered."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(1, columns)


def png(figure):
    """The picture as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _drawing(fill):
    """Make ``fill(axes, ...)`` a function of the other arguments to a PNG."""

    @functools.wraps(fill)
    def draw(*arguments, **options):
        with panel() as (figure, axes):
            fill(axes, *arguments, **options)
            return png(figure)

    return draw


def _line(index):
    """Colour and line style of the model with this number."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}


def _numbers(values):
    return np.array(values, dtype=float)


def _label(axes, x, y, percent="", **legend):
    """Labels and legend; ``percent`` names the axes that are of shares, such as ``"xy"``."""
    for name in percent:
        axis = getattr(axes, f"{name}axis")
        axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(**legend)


@_drawing
def curves(axes, runs, quantity, label):
    """A quantity over updates; ``runs`` are (loss, curves) pairs, equal losses one colour."""
    losses = list(dict.fromkeys(loss for loss, _ in runs))
    seen = set()
    for loss, of_run in runs:
        line = {**_line(losses.index(loss)), "label": None if loss in seen else loss}
        axes.plot(of_run["updates"], of_run[quantity], marker="o", markersize=3, **line)
        seen.add(loss)
    _label(axes, "updates", label)


@_drawing
def histogram(axes, models, quantity, label, sign=1, zero=None, log=False):
    """Share of tokens a bin, one outline a model; ``zero`` names the line at 0."""
    for index, (name, model) in enumerate(models.items()):
        bins = model["quantities"][quantity]["histogram"]
        tokens = _numbers(bins["tokens"])
        share = tokens / (tokens.sum() + bins["below"] + bins["above"])
        edges = sign * _numbers(bins["bin_edges"])
        order = slice(None, None, sign)
        line = _line(index)
        axes.stairs(share[order], edges[order], fill=True, alpha=0.18, color=line["color"])
        axes.stairs(share[order], edges[order], **line, linewidth=1.6, label=name)
    if zero:
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.text(0, 1.01, zero, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
    if log:
        axes.set_yscale("log")
    _label(axes, label, "share of tokens", "" if log else "y")


def _diagonal(axes):
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, alpha=0.6)


@_drawing
def reliability(axes, models):
    """Accuracy over confidence; the diagonal is a model that is right as often as it says."""
    _diagonal(axes)
    for index, (name, model) in enumerate(models.items()):
        curve = model["calibration"]["reliability"]
        pairs = zip(curve["confidence"], curve["accuracy"])
        points = [pair for pair in pairs if None not in pair]
        axes.plot(*zip(*points), **_line(index), marker="o", markersize=4, label=name)
    axes.text(0.97, 0.03, "below: overconfident", transform=axes.transAxes, ha="right", va="bottom")
    x, y = "probability of the model's first choice", "how often it is right"
    _label(axes, x, y, "xy", loc="upper left")


@_drawing
def frequency(axes, models):
    """Accuracy on each class of frequency, a bar a model, with its interval."""
    classes = list(next(iter(models.values()))["by_frequency"])
    width, at = 0.8 / len(models), np.arange(len(classes))
    for index, (name, model) in enumerate(models.items()):
        value, low, high = (
            _numbers([model["by_frequency"][one]["accuracy"][key] for one in classes])
            for key in ("value", "low", "high")
        )
        drawn = axes.bar(
            at + (index - (len(models) - 1) / 2) * width,
            value,
            width * 0.94,
            yerr=np.nan_to_num([value - low, high - value]).clip(min=0),
            color=_line(index)["color"],
            hatch=(None, "//", "..", "xx")[index % 4],
            edgecolor=PAGE,
            linewidth=0,
            error_kw={"elinewidth": 1, "capsize": 3, "ecolor": INK},
            label=name,
        )
        if len(models) <= 3:
            shown = [f"{one:.0%}" if np.isfinite(one) else "" for one in value]
            axes.bar_label(drawn, shown, fontsize=9, padding=1)
    axes.set_xticks(at, classes)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.25)
    _label(axes, "", "accuracy", "y", ncols=len(models), loc="upper right")


@_drawing
def roc(axes, models, score):
    """ROC curve of each model for one score of sentences."""
    _diagonal(axes)
    for index, (name, scores) in enumerate(models.items()):
        one = scores[score]
        label = f"{name}: AUROC {one['auroc']['value']:.3f}"
        rates = (_numbers(one["roc"][key]) for key in ("fpr", "tpr"))
        axes.plot(*rates, **_line(index), label=label)
    x, y = (f"{which} sentences accepted" for which in ("out-of-domain", "in-domain"))
    _label(axes, x, y, "xy", loc="lower right")


@_drawing
def against_noise(axes, models, quantity, label):
    """A quantity of each model over the rate of noise in characters, with its intervals."""
    for index, (name, curve) in enumerate(models.items()):
        value, low, high = (_numbers(curve[quantity][key]) for key in ("value", "low", "high"))
        at = _numbers(curve["rates"])
        axes.errorbar(
            at + 0.01 * np.ptp(at) * (index - (len(models) - 1) / 2),  # bars beside each other
            value,
            # The middle of a bootstrap interval is not quite the value.
            np.maximum([value - low, high - value], 0),
            **_line(index),
            marker="o",
            markersize=4,
            capsize=3,
            elinewidth=1,
            label=name,
        )
    axes.set_ylim(bottom=0)
    axes.set_xticks(at)
    percent = "xy" if quantity == "accuracy" else "x"
    _label(axes, "characters with noise in the source", label, percent)


def of_runs(curves_of_runs):
    """The pictures of the training of runs, ``(loss, curves)`` pairs, by name."""
    return {
        f"curves-{name}": curves(curves_of_runs, quantity, label)
        for name, quantity, label in (
            ("train", "train_nll", "training nll (bits a token)"),
            ("valid", "valid_nll", "validation nll (bits a token)"),
            ("accuracy", "valid_accuracy", "validation accuracy (%)"),
        )
        if curves_of_runs
    }


def of_analysis(analysis):
    """The pictures of an ``analysis.json`` by name."""
    models = analysis["models"]
    deviations, right = "margin (standard deviations of the logits)", "right from here"
    surprise = "energy - free energy = -log p (nats)"
    drawn = {
        "margins": histogram(models, "margin", "margin (logits)", zero=right),
        "margins-relative": histogram(models, "relative_margin", deviations, zero=right),
        "energies": histogram(models, "energy", "raw energy -f(x)[y] (logits)"),
        "energies-relative": histogram(models, "log_prob", surprise, sign=-1, log=True),
        "reliability": reliability(models),
        "confidence": histogram(models, "confidence", "probability of the model's first choice"),
        "frequency": frequency(models),
    }
    for number, one in enumerate(analysis["ood"].values(), start=1):
        drawn[f"roc-{number}"] = roc(one["models"], "mean_log_prob")
    if "noise" in analysis:
        curves_of_models = analysis["noise"]["characters"]
        drawn["noise-accuracy"] = against_noise(curves_of_models, "accuracy", "accuracy")
        drawn["noise-bleu"] = against_noise(curves_of_models, "bleu", "BLEU")
    return drawn
