"""How pictures look, on a light page and on a dark one."""

import base64
import io
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

LIGHT, DARK = "light", "dark"
# Okabe and Ito's colours, told apart with any colour vision; lighter ones for the dark page.
_THEMES = {
    LIGHT: {
        "page": "#ffffff",
        "ink": "#1d2229",
        "faint": "#c9ced6",
        "colours": ("#0072b2", "#d55e00", "#009e73", "#a0559a", "#806000", "#444444"),
    },
    DARK: {
        "page": "#14181e",
        "ink": "#e4e8ee",
        "faint": "#454d59",
        "colours": ("#56b4e9", "#ff9e4a", "#3dd6a3", "#e8a5cf", "#f0d44a", "#bbbbbb"),
    },
}
# Beside the colour, so that a print in black and white still tells the models apart.
LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)), (0, (1, 1)))


@contextmanager
def panel(theme, height=3.4):
    """Axes of a small picture, and the colours of models; to be filled, then rendered."""
    look = _THEMES[theme]
    settings = {
        "figure.facecolor": look["page"],
        "axes.facecolor": look["page"],
        "axes.edgecolor": look["faint"],
        "axes.labelcolor": look["ink"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": look["faint"],
        "grid.alpha": 0.5,
        "grid.linewidth": 0.6,
        "xtick.color": look["ink"],
        "ytick.color": look["ink"],
        "text.color": look["ink"],
        "legend.frameon": False,
        "font.size": 10.5,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        yield figure, figure.add_subplot(), look


def png(figure):
    """The picture as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def data_address(image):
    """A PNG's bytes as an address that a page holds in itself."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")
