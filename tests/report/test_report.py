import json
import re
import shutil
import sys

import pytest
from browser import Browser
from conftest import run, succeed
from sacrebleu import CHRF

from el_fairseq.common.cli import UserError
from el_fairseq.experiments.results import flat_records, gather, read
from el_fairseq.report import sections, translations
from el_fairseq.report.__main__ import report
from el_fairseq.runs.experiment import read_experiment

EVALUATION = "test-averaged2"
EXPERIMENT = """
title = "Two runs"
corpus.command = "none"
train.options = ""
evaluate.last = 2
"""
AWKWARD = "<b>bold</b> & | pipe {name}"


def write_run(folder, tiny, criterion, hypotheses, bleu):
    """A finished run as scripts/train.sh and scripts/evaluate.sh leave it."""
    name = {"ce": "ce-seed1", "el": "el0.5-seed1"}[criterion]
    scores = folder / name / "evaluation" / EVALUATION
    scores.mkdir(parents=True)
    (scores / "hypotheses.en").write_text("".join(f"{line}\n" for line in hypotheses))
    signatures = {"bleu_signature": "BLEU-signature", "chrf_signature": "chrF-signature"}
    (scores / "scores.json").write_text(
        json.dumps({"subset": "test", "bleu": bleu, "chrf": 2 * bleu, **signatures})
    )
    asked = {"experiment": "demo", "criterion": criterion, "seed": 1, "data": str(tiny.folder)}
    asked["log_end"] = 0.5 if criterion == "el" else None
    asked["options"] = []
    (folder / name / "run.json").write_text(json.dumps(asked))
    (folder / name / "training.json").write_text('{"updates": 20, "minutes": 1.5}')
    lines = []
    for epoch in (1, 2):
        numbers = {"nll_loss": 5 - epoch, "accuracy": 40 + epoch, "num_updates": 10 * epoch}
        for kind in ("train", "valid"):
            record = {"epoch": epoch, **{f"{kind}_{key}": str(v) for key, v in numbers.items()}}
            lines.append(f"2026-01-01 00:00:00 | INFO | {kind} | {json.dumps(record)}\n")
    (folder / name / "train.log").write_text("".join(lines))


@pytest.fixture(scope="module")
def run_folder(tiny, tmp_path_factory):
    """Two runs and an analysis, and the report made of them."""
    folder = tmp_path_factory.mktemp("reported") / "a run"
    references = (tiny.text / "test.en").read_text().splitlines()
    good = [line if i % 3 else f"{line} star" for i, line in enumerate(references)]
    bad = [" ".join(line.split()[::-1]) for line in references]
    bad[next(i for i, line in enumerate(references) if len(line.split()) > 6)] = AWKWARD
    write_run(folder, tiny, "ce", bad, bleu=10.0)
    write_run(folder, tiny, "el", good, bleu=12.5)
    (folder / "demo.toml").write_text(EXPERIMENT)
    gather(read_experiment(folder / "demo.toml"), folder)
    module = [sys.executable, "-m", "el_fairseq.analysis", tiny.bin]
    succeed(
        run(
            [
                *(*module, "--model", f"CE={tiny.ce}", "--model", f"EL={tiny.el}"),
                *("--ood", f"the same={tiny.bin}:valid", "--subwords", tiny.subwords),
                *("--noise-sentences", "10", "--noise-rates", "0,0.2", "--beam", "1"),
                *("--bootstrap", "10", "--out", folder / "analysis"),
            ]
        )
    )
    result = succeed(run([sys.executable, "-m", "el_fairseq.report", folder]))
    assert str(folder / "report.html") in result.stdout
    return folder


def test_the_page_needs_nothing_but_itself(run_folder):
    page = (run_folder / "report.html").read_text()
    addresses = re.findall(r'(?:src|href|srcset)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "@import" not in page
    assert "url(" not in page


def test_every_picture_says_what_to_see_and_every_section_how_it_was_made(run_folder):
    page = (run_folder / "report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == page.count("<img ") == 15
    assert all(len(caption) > 40 for caption in captions)
    commands = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert len(commands) == page.count("<section ") == 10
    assert all("python -m el_fairseq.report" in command for command in commands)
    assert "bash scripts/train.sh demo el 1" in page
    assert "bash scripts/evaluate.sh" in page
    assert page.count("python -m el_fairseq.analysis") == 7


def test_the_markdown_says_the_same_with_pictures_beside_it(run_folder):
    text = (run_folder / "report.md").read_text()
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(pictures) == 15
    for picture in pictures:
        assert (run_folder / picture).read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (run_folder / "report-pictures").iterdir()} == {
        picture.split("/")[1] for picture in pictures
    }
    assert text.count("\n## ") == 10
    assert "<b>bold</b> & \\| pipe {name}" in text
    rows = [line for line in text.splitlines() if line.startswith("| el0.5-seed1 |")]
    assert rows[0].startswith("| el0.5-seed1 | EL, log end 0.5 | 12.50 | 25.00 | +2.50 | +5.00 |")


def test_text_from_outside_is_shown_not_obeyed(run_folder):
    page = (run_folder / "report.html").read_text()
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; | pipe {name}" in page


def test_the_translations_shown_are_those_that_differ_most(run_folder, tiny):
    records = flat_records(read(run_folder))
    made = translations.Translations(run_folder, records)
    shown = translations.most_different(made, {"ce-seed1": "CE", "el0.5-seed1": "EL"})
    assert len(shown) == 20
    difference = {}
    for i, (reference, ce, el) in enumerate(zip(made.reference, *made.hypotheses.values())):
        if len(reference.split()) >= 6:
            chrf = [CHRF().sentence_score(text, [reference]).score for text in (ce, el)]
            difference[i] = abs(chrf[0] - chrf[1])
    largest = sorted(difference, key=lambda i: -difference[i])[:20]
    assert [sentence["number"] - 1 for sentence in shown] == largest
    assert shown[0]["source"] == made.source[largest[0]]


def test_a_run_is_compared_with_cross_entropy_of_its_own_seed(run_folder):
    ce, el = flat_records(read(run_folder))
    other_seed = {**ce, "seed": 2, "run": "ce-seed2"}
    assert translations.baseline_of(el, [other_seed, ce, el]) == ce
    assert translations.baseline_of(el, [other_seed, el]) is None
    assert translations.baseline_of(ce, [ce, el]) is None


@pytest.mark.parametrize("kept", ["results.json", "analysis"])
def test_results_or_an_analysis_alone_make_a_report(run_folder, tmp_path, kept):
    folder = tmp_path / "part"
    shutil.copytree(run_folder, folder)
    other = {"results.json": "analysis", "analysis": "results.json"}[kept]
    (folder / other).rename(tmp_path / other)
    page = report(folder, "A part").read_text()
    assert ("Scores" in page) == (kept == "results.json")
    assert ("Margins" in page) == (kept == "analysis")
    assert "A part" in page


def test_several_seeds_are_summed_up_by_their_mean(run_folder, tiny):
    records = flat_records(read(run_folder))
    seconds = [{**record, "seed": 2, "bleu": record["bleu"] + 1} for record in records]
    seconds[1]["bleu"] += 1
    (scores, *_), points = sections.of_runs(run_folder, records + seconds)
    assert points == [
        "EL, log end 0.5 against CE, mean of 2 seeds: +3.00 BLEU (from +2.50 to +3.50)."
    ]
    means, runs = scores.tables
    assert means.rows[1] == ("EL, log end 0.5", "2", "13.50 ± 1.41", "25.00 ± 0.00")
    assert [row[4] for row in runs.rows] == ["", "+2.50", "", "+3.50"]


def test_a_folder_with_nothing_to_report_is_refused_with_the_next_step(run_folder, tmp_path):
    with pytest.raises(UserError, match=r"neither results\.json nor analysis"):
        report(tmp_path, "Nothing")
    (tmp_path / "results.json").write_text("[")
    with pytest.raises(UserError, match="is damaged"):
        report(tmp_path, "Nothing")
    shutil.copy(run_folder / "results.json", tmp_path)
    with pytest.raises(UserError, match=r"there is no .*hypotheses\.en"):
        report(tmp_path, "Nothing")


@pytest.fixture(scope="module")
def browser():
    with Browser() as page:
        yield page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_opens_without_an_error_and_fits_the_window(run_folder, browser, width, dark):
    browser.open(run_folder / "report.html", width, dark)
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 300)")
    assert browser.value("document.images.length") == 15
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.problems == []


def test_pictures_are_dark_on_a_dark_page_and_light_in_print(run_folder, browser):
    first = "document.images[0].currentSrc"
    browser.open(run_folder / "report.html")
    light = browser.value(first)
    browser.open(run_folder / "report.html", dark=True)
    assert browser.value(first) != light
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.ask("Emulation.setEmulatedMedia", media="print", features=[dark])
    ink = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ink == "rgb(255, 255, 255)"
    browser.ask("Emulation.setEmulatedMedia", media="", features=[])


def test_typing_filters_the_translations(run_folder, browser):
    browser.open(run_folder / "report.html")
    visible = "[...document.querySelectorAll('article')].filter(a => a.offsetHeight).length"
    assert browser.value(visible) == 20
    browser.value("document.getElementById('filter').focus()")
    browser.type("BOLD")
    assert browser.value(visible) == 1
    assert browser.value("document.getElementById('shown').textContent") == "1 of 20"
    browser.type("er than any")
    assert browser.value(visible) == 0
    assert browser.problems == []
