"""The page from numbers, pictures and a template, and how numbers look in its sentences."""

import base64
import subprocess

from jinja2 import Environment, PackageLoader

from ..analysis import tables
from ..common import paths
from ..corpora.prepare import versions
from . import figures, runs

PACKAGES = ("el-fairseq", "torch", "fairseq", "ve-fairseq", "sacrebleu")


def page(folder, title, results, analysis):
    """Text of the page of a folder; ``results`` or ``analysis`` is ``None`` where there is none."""
    images, commands, of_runs = {}, [], None
    if results:
        of_runs = runs.facts(results)
        images.update(figures.of_runs(of_runs["curves"]))
        commands += of_runs["commands"]
        test = runs.in_words(results)
    else:
        test = f"{analysis['subset']} of {analysis['data']}"
    if analysis:
        images.update(figures.of_analysis(analysis))
        commands.append(analysis["command"])
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
        number=tables.number,
        p_value=lambda p: f"= {tables.number(p, '.3f')}" if p is None or p >= 0.001 else "< 0.001",
    )
    return environment.get_template("report.html.j2").render(
        images=images,
        title=title or f"What the loss did: {results['title'] if results else test}",
        test=test,
        results=results,
        runs=of_runs,
        analysis=analysis,
        tables=tables.tables(analysis) if analysis else {},
        commands=[*commands, paths.command("report", paths.shown(folder))],
        versions=", ".join(f"{name} {version}" for name, version in versions(PACKAGES).items()),
        commit=commit(),
    )


def each(models, form, *path):
    """A value of each model in words, ``1.20 (CE), 1.50 (EL)``; ``path`` leads to it."""
    words = []
    for name, value in models.items():
        for key in path:
            value = value[key]
        words.append(f"{tables.number(value, form)} ({name})")
    return ", ".join(words)


def commit():
    """The commit of the repository that this package is run from; ``None`` outside of one."""
    command = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
