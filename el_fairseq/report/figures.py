"""The report's pictures. Each function returns a drawing: a function of a theme to a PNG.

Numbers are those of analysis.json, where ``None`` stands for one that is not finite.
"""

import functools

import numpy as np

from .style import LINES, panel, png


def _drawing(fill):
    """Make ``fill(axes, look, ...)`` a function of the other arguments to a drawing."""

    @functools.wraps(fill)
    def with_arguments(*arguments, **options):
        def draw(theme):
            with panel(theme) as (figure, axes, look):
                fill(axes, look, *arguments, **options)
                return png(figure)

        return draw

    return with_arguments


def _line(look, index):
    """Colour and line style of the model with this number."""
    colours = look["colours"]
    return {"color": colours[index % len(colours)], "linestyle": LINES[index % len(LINES)]}


def _numbers(values):
    return np.array(values, dtype=float)


def _percent(axis):
    axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")


@_drawing
def curves(axes, look, runs, part, quantity, label):
    """One quantity over updates; ``runs`` are (label, epochs) pairs, equal labels one colour."""
    labels = list(dict.fromkeys(name for name, _ in runs))
    seen = set()
    for name, epochs in runs:
        records = [epoch[part] for epoch in epochs if quantity in epoch.get(part, {})]
        axes.plot(
            [record["num_updates"] for record in records],
            [record[quantity] for record in records],
            **_line(look, labels.index(name)),
            marker="o",
            markersize=3,
            label=None if name in seen else name,
        )
        seen.add(name)
    axes.set_xlabel("updates")
    axes.set_ylabel(label)
    axes.legend()


@_drawing
def histogram(axes, look, models, quantity, label, sign=1, zero=None, log=False):
    """Share of tokens a bin, one outline a model; ``zero`` names the line at 0."""
    for index, (name, model) in enumerate(models.items()):
        found = model["quantities"][quantity]["histogram"]
        tokens = _numbers(found["tokens"])
        share = tokens / (tokens.sum() + found["below"] + found["above"])
        edges = sign * _numbers(found["bin_edges"])
        order = slice(None, None, sign)
        line = _line(look, index)
        axes.stairs(share[order], edges[order], fill=True, alpha=0.18, color=line["color"])
        axes.stairs(share[order], edges[order], **line, linewidth=1.6, label=name)
    if zero:
        axes.axvline(0, color=look["ink"], linewidth=0.9)
        axes.text(0, 1.01, zero, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
    if log:
        axes.set_yscale("log")
    else:
        _percent(axes.yaxis)
    axes.set_xlabel(label)
    axes.set_ylabel("share of tokens")
    axes.legend()


@_drawing
def reliability(axes, look, models):
    """Accuracy over confidence; the diagonal is a model that is right as often as it says."""
    axes.plot([0, 1], [0, 1], color=look["ink"], linewidth=0.9, alpha=0.6)
    for index, (name, model) in enumerate(models.items()):
        found = model["calibration"]["reliability"]
        points = [
            (confidence, accuracy)
            for confidence, accuracy in zip(found["confidence"], found["accuracy"])
            if confidence is not None
        ]
        axes.plot(
            *zip(*points),
            **_line(look, index),
            marker="o",
            markersize=4,
            label=name,
        )
    axes.text(0.97, 0.03, "below: too sure", transform=axes.transAxes, ha="right", va="bottom")
    axes.set_xlabel("probability of the model's first choice")
    axes.set_ylabel("how often it is right")
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    axes.legend(loc="upper left")


@_drawing
def confidence(axes, look, models):
    """Share of tokens at each confidence."""
    for index, (name, model) in enumerate(models.items()):
        found = model["calibration"]["reliability"]
        tokens = _numbers(found["tokens"])
        axes.stairs(
            tokens / tokens.sum(),
            found["bin_edges"],
            **_line(look, index),
            linewidth=1.6,
            label=name,
        )
    axes.set_xlabel("probability of the model's first choice")
    axes.set_ylabel("share of tokens")
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    axes.legend(loc="upper left")


@_drawing
def bars(axes, look, groups, series, label, groups_label=""):
    """Grouped bars: ``groups`` are names, ``series`` maps a name to one value a group."""
    width = 0.8 / len(series)
    at = np.arange(len(groups))
    for index, (name, values) in enumerate(series.items()):
        drawn = axes.bar(
            at + (index - (len(series) - 1) / 2) * width,
            _numbers(values),
            width * 0.94,
            color=_line(look, index)["color"],
            hatch=(None, "//", "..", "xx")[index % 4],
            edgecolor=look["page"],
            linewidth=0,
            label=name,
        )
        if len(groups) * len(series) <= 12:
            axes.bar_label(
                drawn, [f"{value:.0%}" for value in _numbers(values)], fontsize=9, padding=1
            )
    axes.set_xticks(at, groups)
    axes.set_xlabel(groups_label)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(label)
    _percent(axes.yaxis)
    axes.margins(y=0.18)
    axes.legend(ncols=len(series), loc="upper right")


@_drawing
def roc(axes, look, models, score):
    """ROC curve of each model for one score of sentences."""
    axes.plot([0, 1], [0, 1], color=look["ink"], linewidth=0.9, alpha=0.6)
    for index, (name, scores) in enumerate(models.items()):
        found = scores[score]
        axes.plot(
            _numbers(found["roc"]["fpr"]),
            _numbers(found["roc"]["tpr"]),
            **_line(look, index),
            label=f"{name}: AUROC {found['auroc']['value']:.3f}",
        )
    axes.set_xlabel("out-of-domain sentences let through")
    axes.set_ylabel("in-domain sentences let through")
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    axes.legend(loc="lower right")


@_drawing
def against_noise(axes, look, models, strength, quantity, label, noise_label):
    """A quantity of each model over the strength of the noise, with its intervals."""
    for index, (name, found) in enumerate(models.items()):
        value, low, high = (_numbers(found[quantity][key]) for key in ("value", "low", "high"))
        at = _numbers(found[strength])
        axes.errorbar(
            at + 0.01 * np.ptp(at) * (index - (len(models) - 1) / 2),  # bars beside each other
            value,
            # The middle of a bootstrap interval is not quite the value.
            np.maximum([value - low, high - value], 0),
            **_line(look, index),
            marker="o",
            markersize=4,
            capsize=3,
            elinewidth=1,
            label=name,
        )
    axes.set_xlabel(noise_label)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.set_xticks(at)
    if strength == "rates":
        _percent(axes.xaxis)
    if quantity == "accuracy":
        _percent(axes.yaxis)
    axes.legend()


@_drawing
def beams(axes, look, losses):
    """BLEU by beam size; ``losses`` maps a loss to the BLEU of its runs by beam."""
    for index, (name, found) in enumerate(losses.items()):
        sizes = sorted(found)
        means = [np.mean(found[size]) for size in sizes]
        # Dots for the runs, a line through their means.
        axes.plot(range(len(sizes)), means, **_line(look, index), marker="o", label=name)
        for at, size in enumerate(sizes):
            axes.scatter(
                [at] * len(found[size]), found[size], s=12, color=_line(look, index)["color"]
            )
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("beam size")
    axes.set_ylabel("BLEU")
    axes.legend()
