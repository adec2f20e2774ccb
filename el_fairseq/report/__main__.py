"""Make report.html and report.md of a folder of runs, or of an analysis alone.

The folder holds results.json (scripts/reproduce.sh, scripts/table.sh) with its runs beside it:
one run of each loss is then analysed first, where that has not been done. Or it holds
analysis/analysis.json alone (python -m el_fairseq.analysis --out FOLDER/analysis). report.html
holds all it needs and opens from disk; report.md has its pictures in report-pictures/.
"""

import argparse
import logging
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from ..common.cli import UserError, needs_extra, run, split_at_dashes

with needs_extra("scripts"):
    from jinja2 import UndefinedError

    from ..common import paths
    from ..common.files import making, writing
    from ..common.locks import locked
    from ..common.state import read_json
    from ..experiments import results as experiment_results
    from . import measures
    from .analysing import analyse
    from .pages import page
    from .scores import Runs
    from .style import DARK, LIGHT


def report(folder, title=None, analysis_options=()):
    """Write the report of a folder; returns the path of its page.

    Args:
        title: of the page; ``None`` for one that names the experiment.
        analysis_options: for the analysis of runs, after those of the experiment.
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
        results = analysis = runs = None
        again = "delete it, and run its experiment's scripts/table.sh"
        if results_file.is_file():
            results = experiment_results.read(folder)
            with _another_form(results_file, again):
                runs = Runs(folder, results)
            if results["data"]:
                analyse(folder, results, [*results["report_options"], *analysis_options])
        if analysis_file.is_file():
            again = f"delete {analysis_file.parent}, and run this again"
            if not results:
                again = "run that analysis again"
            analysis = read_json(analysis_file, again)
        with _another_form(analysis_file, again):
            drawings = {}
            if runs:
                drawings.update(runs.drawings())
            if analysis:
                drawings.update(measures.drawings(analysis))
            images = {name: {t: draw(t) for t in (LIGHT, DARK)} for name, draw in drawings.items()}
            pages = {
                kind: page(
                    kind,
                    title,
                    _sections(folder, runs, analysis),
                    images,
                    results=results,
                    runs=runs,
                    analysis=analysis,
                )
                for kind in ("md", "html")
            }
        shutil.rmtree(folder / "report-pictures", ignore_errors=True)
        with making(folder / "report-pictures") as unfinished:
            for name, themes in images.items():
                (unfinished / f"{name}.png").write_bytes(themes[LIGHT])
        for kind, text in pages.items():
            with writing(folder / f"report.{kind}") as file:
                file.write(text)
    return folder / "report.html"


@contextmanager
def _another_form(path, advice):
    """Say in a line which file it was when something is not where it should be in it."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, UndefinedError) as error:
        raise UserError(
            f"{path} is damaged, or of another version of el_fairseq "
            f"({type(error).__name__}: {error}): {advice}"
        ) from error


def _sections(folder, runs, analysis):
    """Names of the sections, in order, with the commands that make each again."""
    sections, last = {}, {}
    if runs:
        sections = {"scores": runs.evaluate_commands(), "setup": []}
        if runs.logs:
            sections["curves"] = runs.train_commands()
        last = {"translations": []}
    if analysis:
        sections.setdefault("setup", [])
        names = ["margins", "energies", "gradient", "calibration", "frequency"]
        names += [name for name in ("ood", "noise") if analysis.get(name)]
        sections.update({name: [analysis["command"]] for name in names})
    sections.update(last)
    this = paths.command("report", paths.shown(folder))
    return [{"name": name, "commands": [*made, this]} for name, made in sections.items()]


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.report",
        description=__doc__,
        usage="%(prog)s FOLDER [--title TITLE] [-- options of python -m el_fairseq.analysis]",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--title", help="(names the experiment)")
    own, analysis_options = split_at_dashes(sys.argv[1:])
    arguments = parser.parse_args(own)
    for library in ("sacrebleu", "matplotlib"):  # fairseq has them say more
        logging.getLogger(library).setLevel(logging.WARNING)
    print(f"Report: {report(arguments.folder, arguments.title, analysis_options)}")


if __name__ == "__main__":
    run(main)
