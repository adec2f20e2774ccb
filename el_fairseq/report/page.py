"""The page from numbers, pictures and a template, and how numbers look in its sentences."""

import base64
import platform
import subprocess
from importlib import metadata

from jinja2 import Environment, PackageLoader

from ..analysis.tables import number
from ..common.paths import ROOT

PACKAGES = ("el-fairseq", "torch", "fairseq", "ve-fairseq", "sacrebleu")


def page(images, **numbers):
    """Text of the page.

    Args:
        images: for each picture's name its PNG.
        numbers: what the template asks for: ``title`` and ``test`` (in words), ``results`` with
            ``runs``, ``analysis`` with ``tables`` (``None`` where there are none), ``commands``.
    """
    environment = Environment(
        loader=PackageLoader("el_fairseq.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters.update(
        address=lambda image: f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}",
        each=each,
        number=number,
        p_value=lambda p: f"= {number(p, '.3f')}" if p is None or p >= 0.001 else "< 0.001",
    )
    template = environment.get_template("report.html.j2")
    return template.render(images=images, versions=versions(), commit=commit(), **numbers)


def each(models, form, *path):
    """A value of each model in words, ``1.20 (CE), 1.50 (EL)``; ``path`` leads to it."""
    words = []
    for name, value in models.items():
        for key in path:
            value = value[key]
        words.append(f"{number(value, form)} ({name})")
    return ", ".join(words)


def versions():
    """Versions of what the numbers depend on, in words."""
    told = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            told.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(told)


def commit():
    """The commit of the repository that this package is run from; ``None`` outside of one."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
