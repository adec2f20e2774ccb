"""Make report.html of a folder of runs, or of an analysis alone.

The folder holds results.json (scripts/reproduce.sh, scripts/table.sh) with its runs beside it:
one run of each loss is then analysed first, where that has not been done. Or it holds
analysis/analysis.json alone (python -m el_fairseq.analysis --out FOLDER/analysis). report.html
is self-contained.
"""

import base64
import contextlib
import logging
import shlex
import statistics
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
    from ..experiments.significance import over_seeds
    from ..experiments.table import all_tables, differing, kind_name, notes
    from . import figures
    from .analysing import analyse

SENTENCES = 20  # how many translations are shown
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
    with locked(folder / "report.lock", f"the report in {folder} is being made"):
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
        test, of_runs = "the test set", facts(results)
        test += f" {results.test}" * (results["tests"] != ["test"])
        images.update(figures.of_runs(of_runs["curves"]))
        commands += of_runs["commands"]
    else:
        test = f"{analysis['subset']} of {analysis['data']}"
    if analysis:
        images.update(figures.of_analysis(analysis))
        commands.append(analysis["command"])
    blocks, templates = {"trim_blocks": True, "lstrip_blocks": True}, PackageLoader(__package__)
    environment = Environment(loader=templates, autoescape=True, **blocks)
    environment.filters.update(
        address=lambda image: f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}",
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


def facts(results):
    """The template's ``runs``, from :class:`~..experiments.results.Results`."""
    corpus = results.corpus
    curves = [(one["loss"], results.curves(one)) for one in results["runs"]]
    made = {
        "tables": all_tables(results),
        "notes": notes(results),
        "comparisons": comparisons(results),
        "checkpoints": ", ".join(map(kind_name, results["checkpoints"])),
        "commands": commands(results),
        "curves": [(loss, of_run) for loss, of_run in curves if of_run and of_run["updates"]],
    }
    if corpus:
        made["data"] = shown(corpus.folder)
        made["pairs"] = ", ".join(f"{name} {count:,}" for name, count in corpus.pairs.items())
    if results.has_texts():
        made["translations"] = differing(results, SENTENCES)
    return made


def comparisons(results):
    """Of BLEU of each loss minus the baseline: seeds, mean, the t-test over seeds (or ``None``),
    and p of the first seed's two models."""
    made = []
    for loss in results.compared_losses():
        of_seeds = results.differences(loss, results.score("bleu"))
        seeds, values = list(of_seeds), list(of_seeds.values())
        one = {"loss": loss, "seeds": len(seeds), "p": results.p_value(loss, seeds[0])}
        made.append({**one, "mean": statistics.fmean(values), "over_seeds": over_seeds(values)})
    return made


def commands(results):
    """The commands that trained and scored the runs, where the records hold them."""
    given = [record.get("command") for record in results["runs"]]
    for record in results["runs"]:
        for path in sorted(results.folder.glob(f"{record['run']}/evaluation/*/evaluation.json")):
            given.append(read_json(path, "evaluate that run again")["command"])
    return [shlex.join(one) for one in given if one]


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
