"""The two pages, HTML and Markdown, from numbers, pictures and templates."""

import platform
import re
import subprocess
from importlib import metadata

from jinja2 import Environment, PackageLoader

from ..common.paths import ROOT
from ..experiments.comparison import RESAMPLINGS
from . import measures
from .style import data_address

PACKAGES = ("el-fairseq", "torch", "fairseq", "ve-fairseq", "sacrebleu")


def page(kind, title, sections, images, **numbers):
    """Text of a page, ``kind`` is ``html`` or ``md``.

    Args:
        title: of the page; ``None`` for one that says what is reported.
        sections: a list of dicts: ``name``, one that words.j2 has, and ``commands``.
        images: for each picture's name its PNG by theme.
        numbers: ``results``, ``analysis`` and ``runs``, ``None`` where there are none.
    """
    environment = Environment(
        loader=PackageLoader("el_fairseq.report"),
        autoescape=kind == "html",
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters.update(
        address=data_address,
        cell=lambda text: " ".join(str(text).split()).replace("|", "\\|"),
        each=measures.each,
        fold=lambda text: type(text)(" ".join(text.split())),
        interval=measures.interval,
        kept=measures.kept,
        number=measures.number,
        spread=measures.spread,
    )
    parts = environment.get_template(f"parts.{kind}.j2").make_module({"images": images})
    text = environment.get_template(f"report.{kind}.j2").render(
        title=title,
        sections=sections,
        show=parts,
        class_names=measures.CLASSES,
        resamplings=RESAMPLINGS,
        versions=versions(),
        commit=commit(),
        **numbers,
    )
    return text if kind == "html" else re.sub(r"\n{3,}", "\n\n", text)


def versions():
    """Versions of what the numbers depend on, in words."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def commit():
    """The commit of the repository that this package is run from; ``None`` outside of one."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
