"""Make report.html of a folder of runs, or of an analysis alone.

The folder holds results.json (scripts/reproduce.sh, scripts/table.sh) with its runs beside it:
one run of each loss is then analysed first, where that has not been done. Or it holds
analysis/analysis.json alone (python -m el_fairseq.analysis --out FOLDER/analysis). report.html
is self-contained.
"""

import base64
import contextlib
import functools
import logging
import operator
import shlex
import subprocess
from pathlib import Path

from ..common.cli import UserError, command_line, needs_extra, parse, run

for library in ("sacrebleu", "matplotlib"):  # fairseq has them say more, at once
    logging.getLogger(library).setLevel(logging.WARNING)
with needs_extra("scripts"):
    from jinja2 import Environment, PackageLoader, UndefinedError

    from ..analysis import tables
    from ..common.files import locked, read_json, writing
    from ..common.paths import ROOT, shown
    from ..corpora.prepare import versions
    from ..experiments.results import read
    from . import figures, runs
    from .analysing import analyse

PACKAGES = ("el-fairseq", "torch", "fairseq", "ve-fairseq", "sacrebleu")


def report(folder, title=None, analysis_options=()):
    """Write the report of a folder; returns its path.

    ``analysis_options`` are for the analysis of runs, after those of the experiment.

    Raises:
        UserError: there is nothing to report, a file of it is damaged or of another version, or
            another process is making the report.
    """
    folder = Path(folder)
    results_file, analysis_file = folder / "results.json", folder / "analysis" / "analysis.json"
    if not results_file.is_file() and not analysis_file.is_file():
        raise UserError(
            f"{folder} holds neither results.json nor analysis/analysis.json: run an experiment "
            "(bash scripts/reproduce.sh), or python -m el_fairseq.analysis with --out "
            f"{folder / 'analysis'}"
        )
    busy = f"another process is making the report in {folder}: wait for it, and run this again"
    with locked(folder / "report.lock", busy):
        results = read(folder) if results_file.is_file() else None
        if results and results["data"]:
            analyse(results, [*results["report_options"], *analysis_options])
        analysis = None
        if analysis_file.is_file():
            analysis = read_json(analysis_file, f"delete {analysis_file.parent}, and make it again")
        try:
            text = page(folder, title, results, analysis)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, UndefinedError) as e:
            raise UserError(
                f"{results_file} or {analysis_file} is damaged, or of another version of "
                f"el_fairseq ({type(e).__name__}: {e}): delete both, run the experiment's "
                "table.sh, and run this again"
            ) from e
        with writing(folder / "report.html") as file:
            file.write(text)
    return folder / "report.html"


def page(folder, title, results, analysis):
    """Text of the page of a folder; ``results`` or ``analysis`` is ``None`` where there is none."""
    images, commands, of_runs = {}, [], None
    if results:
        test, of_runs = runs.in_words(results), runs.facts(results)
        images.update(figures.of_runs(of_runs["curves"]))
        commands += of_runs["commands"]
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
        shell=shlex.join,
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
        commands=[*commands, shlex.join(["bash", "scripts/report.sh", shown(folder)])],
        versions=", ".join(f"{name} {version}" for name, version in versions(PACKAGES).items()),
        commit=commit(),
    )


def each(models, form, *path):
    """A value of each model in words, ``1.20 (CE), 1.50 (EL)``; ``path`` leads to it."""
    values = {name: functools.reduce(operator.getitem, path, of) for name, of in models.items()}
    return ", ".join(f"{tables.number(value, form)} ({name})" for name, value in values.items())


def commit():
    """The commit of the repository that this package is run from; nothing outside of one."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError):  # there is no git
        return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def main():
    usage = "EXPERIMENT|FOLDER [--title TITLE] [-- options of el_fairseq.analysis]"
    parser = command_line("bash scripts/report.sh", __doc__, usage)
    parser.add_argument("folder", help="folder of runs, or name of an experiment")
    parser.add_argument("--title", help="(default: one with the experiment's name)")
    arguments, analysis_options = parse(parser)
    folder = Path(arguments.folder)
    if not folder.is_dir():
        folder = ROOT / "runs" / folder.name.removesuffix(".toml")
    print(f"Report: {report(folder, arguments.title, analysis_options)}")


if __name__ == "__main__":
    run(main)
