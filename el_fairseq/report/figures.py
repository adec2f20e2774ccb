"""The report's pictures: each function returns a PNG, of numbers as analysis.json holds them.

``None`` stands there for a number that is not finite.
"""

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
    """The axes of a small picture, one or several, to be filled, then rendered by :func:`png`."""
    with matplotlib.rc_context(SETTINGS):
        yield Figure(figsize=(width, height), layout="constrained").subplots(1, columns)


def png(axes):
    """The picture that the axes are in, as the bytes of a PNG."""
    file = io.BytesIO()
    axes.figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _line(index):
    """Colour and line style of the model with this number."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}


def _numbers(values, *keys):
    """A list as an array, or an array for each key of a dict of lists."""
    return [_numbers(values[key]) for key in keys] if keys else np.array(values, dtype=float)


def _labelled(axes, x, y, percent="", **legend):
    """The picture, with labels, legend, and shares in percent (see :func:`lines`)."""
    for name in percent:
        axis = getattr(axes, f"{name}axis")
        axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.set(xlabel=x, ylabel=y)
    axes.legend(**legend)
    return png(axes)


def lines(series, x, y, percent="", loc="best", dots=4, diagonal=False, note="", **properties):
    """Lines, each ``(name, xs, ys)`` or ``(name, xs, ys, errors)``; equal names look equal.

    ``percent`` names the axes that show shares, such as ``"xy"``; ``dots`` is the size of points;
    ``diagonal`` adds the line from (0, 0) to (1, 1), ``note`` a text at the lower right.
    """
    names = list(dict.fromkeys(name for name, *_ in series))
    with panel() as axes:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, alpha=0.6)
        for name, *points in series:
            looks = {"marker": "o", "markersize": dots, "capsize": 3, "elinewidth": 1}
            axes.errorbar(*points, **_line(names.index(name)), **looks, label=name)
        if note:
            axes.text(0.97, 0.03, note, transform=axes.transAxes, ha="right", va="bottom")
        axes.set(**properties)
        handles, labels = axes.get_legend_handles_labels()
        first = [handles[labels.index(name)] for name in names]
        return _labelled(axes, x, y, percent, handles=first, labels=names, loc=loc)


def histogram(models, quantity, label, sign=1, zero="", log=False):
    """Share of tokens a bin, one outline a model; ``zero`` names the line at 0."""
    with panel() as axes:
        for index, (name, model) in enumerate(models.items()):
            bins = model["quantities"][quantity]["histogram"]
            tokens, edges = _numbers(bins, "tokens", "bin_edges")
            share = tokens / (tokens.sum() + bins["below"] + bins["above"])
            order, line = slice(None, None, sign), _line(index)
            outline = share[order], sign * edges[order]
            axes.stairs(*outline, fill=True, alpha=0.18, color=line["color"])
            axes.stairs(*outline, **line, linewidth=1.6, label=name)
        if zero:
            axes.axvline(0, color=INK, linewidth=0.9)
            axes.text(0, 1.01, zero, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
        if log:
            axes.set_yscale("log")
        return _labelled(axes, label, "share of tokens", "" if log else "y")


def frequency(models):
    """Accuracy on each class of frequency, a bar a model, with its interval."""
    classes = list(next(iter(models.values()))["by_frequency"])
    width, at = 0.8 / len(models), np.arange(len(classes))
    with panel() as axes:
        for index, (name, model) in enumerate(models.items()):
            accuracies = [model["by_frequency"][one]["accuracy"] for one in classes]
            value, low, high = (
                _numbers([one[key] for one in accuracies]) for key in ("value", "low", "high")
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
        return _labelled(axes, "", "accuracy", "y", ncols=len(models), loc="upper right")


def reliability(models):
    """Accuracy over confidence; the diagonal is a model that is right as often as it says."""
    series = []
    for name, model in models.items():
        points = np.array(_numbers(model["calibration"]["reliability"], "confidence", "accuracy"))
        series.append((name, *points[:, np.isfinite(points).all(0)]))
    labels = "probability of the model's first choice", "how often it is right"
    return lines(series, *labels, "xy", "upper left", diagonal=True, note="below: overconfident")


def roc(models, score):
    """ROC curve of each model for one score of sentences."""
    series = []
    for name, of in models.items():
        label = f"{name}: AUROC {of[score]['auroc']['value']:.3f}"
        series.append((label, *_numbers(of[score]["roc"], "fpr", "tpr")))
    x, y = (f"{which} sentences accepted" for which in ("out-of-domain", "in-domain"))
    return lines(series, x, y, "xy", "lower right", dots=0, diagonal=True)


def against_noise(models, quantity, label, percent):
    """A quantity of each model over the rate of noise in characters, with its intervals."""
    series = []
    for index, (name, curve) in enumerate(models.items()):
        value, low, high = _numbers(curve[quantity], "value", "low", "high")
        at = _numbers(curve["rates"])
        beside = at + 0.01 * np.ptp(at) * (index - (len(models) - 1) / 2)
        # The middle of a bootstrap interval is not quite the value.
        series.append((name, beside, value, np.maximum([value - low, high - value], 0)))
    x = "characters with noise in the source"
    return lines(series, x, label, percent, ylim=(0, None), xticks=at)


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
        drawn["noise-accuracy"] = against_noise(curves_of_models, "accuracy", "accuracy", "xy")
        drawn["noise-bleu"] = against_noise(curves_of_models, "bleu", "BLEU", "x")
    return drawn
