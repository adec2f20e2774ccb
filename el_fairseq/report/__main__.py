"""Make report.html and report.md of a folder of runs, or of an analysis alone.

The folder holds results.json (scripts/reproduce.sh, scripts/table.sh) with its runs beside it, or
analysis/analysis.json (python -m el_fairseq.analysis --out FOLDER/analysis), or both. report.html
holds all it needs and opens from disk; report.md has its pictures in report-pictures/.
"""

import argparse
import json
import shlex
import shutil
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from ..common.cli import UserError, run
from ..common.files import making, writing
from ..experiments.results import flat_records, read
from . import sections
from .style import DARK, LIGHT, data_address


def report(folder, title):
    """Write the report of a folder; returns the path of its page."""
    folder = Path(folder)
    results, analysis = folder / "results.json", folder / "analysis" / "analysis.json"
    if not results.is_file() and not analysis.is_file():
        raise UserError(
            f"{folder} holds neither results.json nor analysis/analysis.json: run "
            "scripts/demo.sh, or python -m el_fairseq.analysis ... --out "
            f"{shlex.quote(str(folder / 'analysis'))}"
        )
    parts, points = [], []
    if results.is_file():
        found = sections.of_runs(folder, flat_records(read(folder)))
        parts, points = parts + found[0], points + found[1]
    if analysis.is_file():
        found = sections.of_analysis(_read(analysis))
        # The translations, long, stand at the end.
        parts, points = parts[:2] + found[0] + parts[2:], points + found[1]
    pictures = [picture for part in parts for picture in part.pictures]
    drawn = {picture.name: {t: picture.draw(t) for t in (LIGHT, DARK)} for picture in pictures}
    shutil.rmtree(folder / "report-pictures", ignore_errors=True)
    with making(folder / "report-pictures") as unfinished:
        for name, images in drawn.items():
            (unfinished / f"{name}.png").write_bytes(images[LIGHT])
    environment = Environment(
        loader=PackageLoader("el_fairseq.report"),
        autoescape=select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["address"] = data_address
    environment.filters["cell"] = lambda text: " ".join(text.split()).replace("|", "\\|")
    content = {
        "title": title,
        "points": points,
        "sections": parts,
        "images": drawn,
        "command": shlex.join(["python", "-m", "el_fairseq.report", str(folder)]),
    }
    for name in ("report.html", "report.md"):
        with writing(folder / name) as file:
            file.write(environment.get_template(f"{name}.j2").render(content))
    return folder / "report.html"


def _read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): make it again") from None


def main():
    parser = argparse.ArgumentParser(prog="python -m el_fairseq.report", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="RUN-FOLDER")
    parser.add_argument("--title", default="What the loss did", help="(%(default)s)")
    arguments = parser.parse_args()
    print(f"Report: {report(arguments.folder, arguments.title)}")


if __name__ == "__main__":
    run(main)
