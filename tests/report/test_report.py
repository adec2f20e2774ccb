import json
import re
import shlex
import shutil
import sys

import pytest
from browser import Browser
from conftest import ROOT, run, succeed
from made_runs import AWKWARD, KIND, write_experiment
from sacrebleu import CHRF

from el_fairseq.common.cli import UserError, split_at_dashes
from el_fairseq.common.locks import locked
from el_fairseq.experiments import reproduce
from el_fairseq.experiments import results as experiment_results
from el_fairseq.experiments.plan import Plan
from el_fairseq.report import commands, translations
from el_fairseq.report.__main__ import report
from el_fairseq.runs.experiment import criterion_options, read_experiment
from el_fairseq.runs.training import identity_of_corpus


@pytest.fixture(scope="module")
def run_folder(tiny, tmp_path_factory):
    """Two runs, and the report made of them and of their analysis."""
    folder = tmp_path_factory.mktemp("reported") / "a run"
    write_experiment(folder, tiny, seeds=[1])
    result = succeed(run([sys.executable, "-m", "el_fairseq.report", folder]))
    assert str(folder / "report.html") in result.stdout
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Reports without an analysis of their own, their pictures filled but not rendered."""
    monkeypatch.setattr("el_fairseq.report.__main__.analyse", lambda *_: None)
    monkeypatch.setattr("el_fairseq.report.figures.png", lambda figure: b"")


@pytest.fixture
def copy(run_folder, tmp_path, quick):
    """The same folder, to be damaged."""
    return shutil.copytree(run_folder, tmp_path / "copy")


def write(folder, results):
    (folder / "results.json").write_text(json.dumps(results))


def markdown_of(folder):
    return report(folder).with_suffix(".md").read_text()


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
    assert len(captions) == page.count("<img ")
    assert all(len(caption) > 40 for caption in captions)
    assert re.findall(r'href="#(.*?)"', page) == re.findall(r'<section id="(.*?)"', page)
    for section in page.split("<section ")[1:]:
        made = re.search(r"<pre>(.*?)</pre>", section, re.DOTALL)[1]
        assert "-m el_fairseq.report" in made
        assert "undefined" not in section.lower()


def test_the_markdown_says_the_same_with_pictures_beside_it(run_folder):
    text = (run_folder / "report.md").read_text()
    page = (run_folder / "report.html").read_text()
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(pictures) == page.count("<img ")
    for picture in pictures:
        assert (run_folder / picture).read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (run_folder / "report-pictures").iterdir()} == {
        picture.split("/")[1] for picture in pictures
    }
    for title in re.findall(r"<h2>(.*?)</h2>", page):
        assert f"\n## {title}\n" in text
    assert re.search(r"\n### Sentence \d+\n", text)
    assert "<b>bold</b> & \\| pipe {name}" in text
    # A table's rows follow each other, and an empty line ends it.
    assert not re.search(r"\|\n[^|\n]", text)


def test_scores_stand_with_interval_ter_minutes_and_labelled_signatures(run_folder):
    text = (run_folder / "report.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| el0.5-seed1 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert re.fullmatch(r"13\.60 \[\d+\.\d\d, \d+\.\d\d\]", cells[1])
    assert cells[2] == "+2.60"
    for cell, score in zip(cells[4:], ("27.20", "76.40")):
        assert re.fullmatch(rf"{score} \[\d+\.\d\d, \d+\.\d\d\]", cell)
    assert cells[6:] == ["3.000", "20", "1.5"]
    assert "BLEU: bleu-signature; chrF: chrf-signature; TER: ter-signature" in text


def test_the_set_up_says_what_was_trained_on_what(run_folder, tiny):
    text = (run_folder / "report.md").read_text()
    assert text.startswith("# What the loss did: A made-up language\n")
    for fact in (
        f"| corpus | {tiny.folder} |",
        "| sentence pairs | train 300, valid 30, test 43 |",
        "| direction | de to en |",
        "| EL, log end 0.5 | seed 1 |",
        "| parameters of the model | 12,345 |",
        "| fairseq-train options of all runs | --arch transformer --dropout 0.2 |",
        f"| versions | Python {sys.version.split()[0]}, ",
    ):
        assert fact in text


def test_text_from_outside_is_shown_not_obeyed(run_folder):
    page = (run_folder / "report.html").read_text()
    assert AWKWARD not in page
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; | pipe {name}" in page


def test_the_translations_shown_are_those_that_differ_most(run_folder):
    made = translations.of_first_runs(run_folder, experiment_results.read(run_folder))
    shown = made.most_different()
    assert len(shown) == 20
    difference = {}
    for i, (reference, ce, el) in enumerate(zip(made.reference, *made.hypotheses.values())):
        if len(reference.split()) >= 6:
            chrf = [CHRF().sentence_score(text, [reference]).score for text in (ce, el)]
            difference[i] = abs(chrf[0] - chrf[1])
    largest = sorted(difference, key=lambda i: -difference[i])[:20]
    assert [sentence["number"] - 1 for sentence in shown] == largest
    assert shown[0]["source"] == made.source[largest[0]]


def test_one_seed_is_called_one_seed_in_the_same_breath(run_folder):
    first = (run_folder / "report.md").read_text().splitlines()[2]
    assert "EL, log end 0.5 against CE: +2.60 BLEU" in first
    assert "One seed does not tell" in first
    assert "bash scripts/reproduce.sh tiny --seeds 1,2,3,4,5" in first
    assert "significant" not in (run_folder / "report.md").read_text()


def test_the_first_line_of_several_seeds_says_what_to_do(tiny, tmp_path, quick):
    results = write_experiment(tmp_path, tiny, seeds=[1, 2])
    write(tmp_path, {**results, "data": None})
    text = markdown_of(tmp_path)
    first = text.splitlines()[2]
    assert first.startswith(
        "- 2 seeds each: EL, log end 0.5 against CE: +2.65 BLEU on average, 95 "
    )
    assert "**Switch it on here**" in first
    assert "| EL, log end 0.5 | 2 | 14.15 ± 0.78 | 28.30 ± 1.56 |" in text
    assert text.count("| +2.60 |") == 1
    results["runs"][3]["scores"]["test"][KIND]["bleu"] = 9.0
    write(tmp_path, {**results, "data": None})
    assert "**These seeds do not tell the losses apart**" in markdown_of(tmp_path).splitlines()[2]


def test_results_without_logs_and_models_show_what_their_records_know(tiny, tmp_path, quick):
    results = write_experiment(tmp_path, tiny, seeds=[1, 2])
    for number, record in enumerate(results["runs"]):
        (tmp_path / record["run"] / "train.log").unlink()
        record["cpu_minutes"] = record.pop("minutes")
        record["beams"] = {"test": {"1": {"bleu": 9.5}, "5": {"bleu": 10.0}}}
        after = {"nll_nats": 1.5, "expected_calibration_error": 0.02 + 0.01 * number}
        before = {"nll_nats": 1.6, "expected_calibration_error": 0.05}
        record["calibration"] = {"temperature": 1.1, "before": before, "after": after}
        curve = {"train_nll": [4.0, 3.0], "valid_nll": [4.1, 3.2]}
        curve.update(train_accuracy=[30, 40], valid_accuracy=[31, 39])
        record["curves"] = {"updates": [10, 20], **curve}
    write(tmp_path, {**results, "data": None})
    text = markdown_of(tmp_path)
    assert "report-pictures/beams-test.png" in text
    assert "report-pictures/curves-valid.png" in text
    assert "5.00 ± 0.00 (CE)" in text
    assert "2.50 ± 0.71 (CE), 4.50 ± 0.71 (EL, log end 0.5)" in text
    assert "| TER | minutes of CPU |" in text


def test_results_or_an_analysis_alone_make_a_report(copy, tmp_path):
    (copy / "results.json").rename(tmp_path / "results.json")
    page = report(copy, "A part").read_text()
    assert "Scores" not in page
    assert "Margins" in page
    assert "A part" in page


def test_a_printed_command_is_one_that_runs(tmp_path):
    """Also of an experiment, a log end and options of the user's own: all must be told."""
    file = tmp_path / "my own" / "mine.toml"
    file.parent.mkdir()
    file.write_text(
        """
title = "Mine"
corpus.command = "none"
train.options = "--update-freq 2"
evaluate.last = 2
"""
    )
    experiment = read_experiment(file)
    options = [*experiment.train_options, *criterion_options("el", 0.75), "--seed", "3"]
    asked = {"experiment": "mine", "criterion": "el", "log_end": 0.75, "seed": 3}
    data = tmp_path / "data"
    (data / "bin").mkdir(parents=True)
    (data / "bin" / "dict.de.txt").touch()
    asked.update(format=2, corpus=identity_of_corpus(data / "bin"), device="cpu")
    asked.update(data=str(data), options=[*options, "--dropout", "0.1"], processes=1)
    asked_of_two = {**asked, "options": [*options, "--update-freq", "1"], "processes": 2}
    for name, one in (("el0.75-seed3", asked), ("of two", asked_of_two)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(one))
        (tmp_path / name / "training.json").write_text("{}")
    records = [{**asked, "run": "el0.75-seed3"}, {**asked_of_two, "run": "of two"}]
    results = {**asked, "word": experiment.shown_word, "runs": records}
    made = [commands.train(tmp_path, results, record) for record in records]
    assert made[0].endswith("--log-end 0.75 -- --dropout 0.1")
    assert succeed(run(["bash", "-c", " && ".join(made)])).stdout.count("is trained") == 2
    call, more = split_at_dashes(shlex.split(commands.more_seeds(tmp_path, results))[2:])
    plan = Plan(reproduce.parser().parse_args([*call, "--cpu"]), more)
    assert (plan.folder, plan.data) == (tmp_path, data)
    assert plan.every_option == ["--update-freq", "2", "--dropout", "0.1"]


def test_commands_of_the_page_name_the_environment_and_one_kind_of_paths(run_folder):
    text = (run_folder / "report.md").read_text()
    made = [line for block in text.split("```")[1::2] for line in block.strip().splitlines()]
    python = {shlex.split(line)[0] for line in made if " -m " in line}
    assert len(python) == 1
    assert (ROOT / python.pop()).exists()
    assert all(line.startswith(("bash scripts/", ".venv/", "/")) for line in made)
    assert (
        f"bash scripts/evaluate.sh '{run_folder}/ce-seed1' --subset test --last 2 -- --beam 4"
        in made
    )
    assert any(line.endswith("-- --dropout 0.2") for line in made)


def damage(folder, name, change):
    path = folder / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("results.json", lambda value: value.pop("checkpoints")),
        ("results.json", lambda value: value["runs"][0].update(scores=None)),
        ("results.json", lambda value: value.update(runs=3)),
        ("analysis/analysis.json", lambda value: value.update(models=None)),
        ("analysis/analysis.json", lambda value: value["models"]["CE"].pop("by_frequency")),
        ("analysis/analysis.json", lambda value: value["models"]["CE"].update(calibration=None)),
    ],
)
def test_a_damaged_file_is_named_in_one_line(copy, name, change):
    before = (copy / "report.html").read_bytes()
    damage(copy, name, change)
    with pytest.raises(UserError) as refusal:
        report(copy)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (copy / "report.html").read_bytes() == before


@pytest.mark.parametrize("name", ["results.json", "analysis/analysis.json"])
def test_a_cut_file_is_named_in_one_line(copy, name):
    (copy / name).write_text("[")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        report(copy)


def test_a_number_that_is_not_finite_is_a_dash(copy):
    def remove(value):
        model = value["models"]["CE"]
        model["quantities"]["margin"]["mean"] = None
        model["temperature"]["after"]["nll_nats"] = None
        model["by_frequency"]["few"]["accuracy"] = None
        value["ood"]["shuffled words"]["models"]["CE"]["mean_log_prob"]["auroc"]["low"] = None
        value["noise"]["characters"]["CE"]["bleu"]["high"][1] = None

    damage(copy, "analysis/analysis.json", remove)
    text = markdown_of(copy)
    assert re.search(r"\| margin, logits \| CE \| – \|", text)


def test_translations_that_are_cut_are_refused(copy):
    path = copy / "ce-seed1" / "evaluation" / f"test-{KIND}" / "hypotheses.en"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:40]))
    with pytest.raises(UserError, match="40 sentences"):
        report(copy)
    path.unlink()
    with pytest.raises(UserError, match=r"there is no .*hypotheses\.en"):
        report(copy)


def test_a_folder_with_nothing_to_report_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(UserError, match=r"neither results\.json nor analysis"):
        report(tmp_path)


def test_a_second_report_at_the_same_time_is_refused(copy):
    busy = pytest.raises(UserError, match="another process is making the report")
    with locked(copy / "report.lock", "free"), busy:
        report(copy)


def test_a_report_after_one_that_was_stopped_is_whole(copy):
    left = copy / ".report-pictures.unfinished"
    left.mkdir()
    (left / "half.png").touch()
    (copy / "report-pictures" / "old.png").touch()
    report(copy)
    assert "old.png" not in {path.name for path in (copy / "report-pictures").iterdir()}
    assert not left.exists()


@pytest.fixture(scope="module")
def browser():
    with Browser() as page:
        yield page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_opens_without_an_error_and_fits_the_window(run_folder, browser, width, dark):
    browser.open(run_folder / "report.html", width, dark)
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 300)")
    assert browser.value("document.images.length") > 0
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.problems == []


def test_on_a_phone_no_number_of_a_table_is_out_of_sight(run_folder, browser):
    browser.open(run_folder / "report.html", 390)
    outside = """[...document.querySelectorAll('.wide td')].filter(
        cell => cell.offsetHeight && cell.getBoundingClientRect().right > 390).length"""
    assert browser.value("document.querySelectorAll('.wide td').length") > 0
    assert browser.value(outside) == 0
    label = "getComputedStyle(document.querySelector('.wide td:nth-child(2)'), '::before').content"
    assert "BLEU" in browser.value(label)


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
