import html
import json
import re
import shutil
import subprocess
import sys

import pytest
from made_runs import AWKWARD, KIND, write_experiment
from sacrebleu import CHRF

from el_fairseq.common.cli import UserError
from el_fairseq.common.locks import locked
from el_fairseq.experiments import results as experiment_results
from el_fairseq.experiments import significance
from el_fairseq.experiments import table as tables_of
from el_fairseq.report import page, translations
from el_fairseq.report.__main__ import report

EL = "EL"


@pytest.fixture(scope="module")
def run_folder(tiny, tmp_path_factory):
    """Two runs, and the report made of them and of their analysis."""
    folder = tmp_path_factory.mktemp("reported") / "a run"
    write_experiment(folder, tiny, seeds=[1])
    assert report(folder) == folder / "report.html"
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Reports without an analysis of their own, their pictures filled but not rendered."""
    monkeypatch.setattr("el_fairseq.report.__main__.analyse", lambda *_: None)
    monkeypatch.setattr("el_fairseq.report.figures.png", lambda figure: b"")
    monkeypatch.setattr(significance, "RESAMPLINGS", 20)


@pytest.fixture
def copy(run_folder, tmp_path, quick):
    """The same folder, to be changed."""
    return shutil.copytree(run_folder, tmp_path / "copy")


def change(folder, name, how):
    path = folder / name
    value = json.loads(path.read_text())
    how(value)
    path.write_text(json.dumps(value))


def text_of(page_of_report):
    """What a reader sees of a page."""
    body = page_of_report.read_text().split("<body>")[1].split("</body>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_page_needs_nothing_but_itself(run_folder):
    text = (run_folder / "report.html").read_text()
    addresses = re.findall(r'(?:src|href|srcset)="([^"]*)"', text)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "@import" not in text and "url(" not in text


def test_every_picture_has_a_caption_and_every_section_a_link(run_folder):
    text = (run_folder / "report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL)
    assert len(captions) == text.count("<img ") > 10
    assert all(len(caption.strip()) > 20 for caption in captions)
    assert re.findall(r'href="#(.*?)"', text) == re.findall(r'<section id="(.*?)"', text)
    assert "undefined" not in text.lower()


def test_the_tables_are_those_of_the_table_and_what_is_noted_there_is_noted(run_folder):
    text = text_of(run_folder / "report.html")
    results = experiment_results.read(run_folder)
    tables, count = tables_of.all_tables(results, tables_of.p_values(results, run_folder))
    for table in tables:
        assert table.title in text
        for row in table.rows:
            assert " ".join(" ".join(row).split()) in text
    assert all(note in text for note in tables_of.notes(results, count))
    assert re.search(r"el-seed1 13\.60 \[\d+\.\d\d, \d+\.\d\d\] 27\.20 \[", text)


def test_the_set_up_says_what_was_trained_on_what_by_which_commands(run_folder, tiny):
    text = text_of(run_folder / "report.html")
    for fact in (
        f"What the loss did: A made-up language {EL} against CE",
        f"corpus {tiny.folder} sentence pairs train 300, valid 30, test 43 direction de to en",
        f"{EL} seed 1 checkpoints last 2 parameters of the model 12,345",
        "fairseq-train options of all runs --arch transformer --dropout 0.2",
        f"versions Python {sys.version.split()[0]}, ",
        "fairseq-train 'the data' --seed 1 ",
        "fairseq-generate 'the data' --path el-seed1.pt ",
    ):
        assert fact in text
    assert re.search(r"-m el_fairseq\.analysis \S+ .* -m el_fairseq\.report '.*a run'$", text)


def test_text_from_outside_is_shown_not_obeyed(run_folder):
    assert AWKWARD not in (run_folder / "report.html").read_text()
    assert AWKWARD in text_of(run_folder / "report.html")


def test_the_translations_shown_are_those_that_differ_most(run_folder):
    results = experiment_results.read(run_folder)
    made = translations.of_first_runs(run_folder, results)
    assert (len(made.sentences), made.words) == (20, 6)
    reference = experiment_results.references(run_folder, results, "test")
    texts = [
        experiment_results.hypotheses(run_folder, results, run, "test", KIND)
        for run in ("ce-seed1", "el-seed1")
    ]
    difference = {}
    for i, (right, *both) in enumerate(zip(reference, *texts)):
        if len(right.split()) >= 6:
            chrf = [CHRF().sentence_score(one, [right]).score for one in both]
            difference[i] = abs(chrf[0] - chrf[1])
    largest = sorted(difference, key=lambda i: -difference[i])[:20]
    assert [sentence["number"] - 1 for sentence in made.sentences] == largest


def test_short_sentences_fill_up_and_a_tie_is_nobodys_win():
    made = translations.Translations(["a b", "c"], {"CE": ["a b", "c"], EL: ["a b", "d"]}, None)
    assert [sentence["number"] for sentence in made.sentences] == [2, 1]
    assert (made.words, made.ahead, made.ties) == (1, {"CE": 1, EL: 0}, 1)


def with_bleu(folder, bleu):
    """Give the runs in a folder these BLEU, pairs of CE and EL, one a seed."""

    def how(results):
        results["data"] = None
        for record in results["runs"]:
            pair = bleu[record["seed"] - 1]
            record["scores"]["test"][KIND]["bleu"] = pair[record["loss"] == "EL"]

    change(folder, "results.json", how)


@pytest.mark.parametrize(
    ("bleu", "says"),
    [
        ([(30, 32.5)], "+2.50 BLEU, with one seed. One seed does not tell"),
        ([(30, 32.5), (31, 33.6)], "+2.55 BLEU on average over 2 seeds, 95 % interval"),
        ([(30, 32.5), (31, 33.6)], "More BLEU than CE : zero lies below the interval."),
        ([(30, 27.5), (31, 28.4)], "Less BLEU than CE : zero lies above the interval."),
        ([(30, 29), (30, 31.5)], "These seeds do not tell the two losses apart"),
        ([(30, 31), (31, 32)], "+1.00 BLEU with each of 2 seeds."),
    ],
)
def test_the_first_line_says_what_the_seeds_can_tell(tiny, tmp_path, quick, bleu, says):
    write_experiment(tmp_path, tiny, seeds=range(1, len(bleu) + 1))
    with_bleu(tmp_path, bleu)
    text = text_of(report(tmp_path)).split("Scores")[0]
    assert says in text
    assert "significant" not in text


def test_a_difference_is_the_same_number_in_the_first_line_and_in_the_table(tiny, tmp_path, quick):
    write_experiment(tmp_path, tiny, seeds=[1, 2, 3, 4])
    with_bleu(tmp_path, [(41.84, 41.23), (41.11, 40.49), (40.95, 40.34), (40.0, 39.38)])
    first, table = text_of(report(tmp_path)).split("Scores", 1)
    mean = re.search(r"mean ([+-]\d\.\d\d)", table)[1]
    assert f"on the test set: {mean} BLEU on average" in first


def name_two_test_sets(folder, **changes):
    """Make the runs' test set ``talks``, beside another, with a corpus that has both."""

    def two(results):
        results["tests"] = ["talks", "news-of-the-year-2019"]
        for record in results["runs"]:
            evaluation = folder / record["run"] / "evaluation"
            for name in results["tests"]:
                shutil.copytree(evaluation / f"test-{KIND}", evaluation / f"{name}-{KIND}")
            record["scores"] = dict.fromkeys(results["tests"], record["scores"]["test"])
            record["scores"]["talks"][KIND]["tokenized_bleu"] = 10.0
        results.update(data=str(folder / "data"), **changes)

    change(folder, "results.json", two)
    (folder / "data" / "text").mkdir(parents=True)
    tests = {"talks": "test", "news-of-the-year-2019": "valid"}
    manifest = {"source": "de", "target": "en", "tokenizer": None, "tests": tests}
    (folder / "data" / "manifest.json").write_text(json.dumps(manifest))
    references = folder / "ce-seed1" / "evaluation" / f"talks-{KIND}" / "references.en"
    shutil.copy(references, folder / "data" / "text" / "test.de")


def test_two_test_sets_are_told_apart_wherever_one_is_meant(copy):
    name_two_test_sets(copy)
    header, *sections = re.split("<section ", report(copy).read_text())
    assert header.count("the test set talks") == 3  # BLEU, accuracy, calibration error
    told = {re.match('id="(.*?)"', part)[1]: "the test set talks" in part for part in sections}
    assert [name for name, says in told.items() if not says] == ["curves", "commands"]
    change(copy, "results.json", lambda results: results.update(tests=["talks"]))
    assert "Accuracy on the 357 tokens of 43 sentences in the test set talks" in text_of(
        report(copy)
    )


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (0.054, 0.097, "rises to 9.70%"),
        (0.097, 0.054, "falls to 5.40%"),
        (0.05401, 0.05404, "stays 5.40%"),
        (0.054, None, "is –"),
    ],
)
def test_a_temperature_is_said_to_do_what_it_did(copy, before, after, says):
    def set_errors(analysis):
        model = analysis["models"]["CE"]
        model["calibration"]["expected_calibration_error"] = before
        model["temperature"]["after"]["expected_calibration_error"] = after

    change(copy, "analysis/analysis.json", set_errors)
    text = text_of(report(copy))
    assert f"fitted on the validation set, it {says} (CE), " in text
    assert "repair" not in text


def test_who_is_ahead_under_noise_is_told_step_by_step():
    curves = {
        "CE": {"strengths": [0, 0.1, 0.8], "accuracy": {"value": [0.6, 0.55, 0.3]}},
        "EL": {"strengths": [0, 0.1, 0.8], "accuracy": {"value": [0.6001, 0.5, 0.4]}},
    }
    told = page.leaders(curves, "accuracy", "strengths", ".3f")
    assert told == "0: CE and EL, 0.1: CE, 0.8: EL"
    curves["CE"]["accuracy"]["value"][1] = curves["EL"]["accuracy"]["value"][1] = None
    assert "0.1: –" in page.leaders(curves, "accuracy", "strengths", ".3f")
    del curves["CE"]
    assert page.leaders(curves, "accuracy", "strengths", ".3f") == ""


def test_shares_intervals_and_every_registered_measure_are_named(copy):
    def add(analysis):
        analysis["measures"]["doubt"] = {
            **{"title": "doubt", "unit": "doubts", "higher_is_better": False, "form": ".1f"}
        }
        for model in analysis["models"].values():
            model["quantities"]["doubt"] = {**model["quantities"]["entropy"], "mean": 77.7}

    change(copy, "analysis/analysis.json", add)
    text = text_of(report(copy))
    assert "tokens with p > 0.5 their share of CE's gradient their share of EL's gradient" in text
    share = r"\d+\.\d\d% \[\d+\.\d\d%, \d+\.\d\d%\]"
    assert re.search(rf"CE \d+\.\d\d% {share} \d\.\d{{4}} \d\.\d{{3}} {share}", text)
    assert re.search(rf"frequent CE 120 {share}", text)
    assert "doubt, doubts ↓ CE 77.7 " in text


def test_kept_results_without_texts_show_curves_and_calibration_over_seeds(tiny, tmp_path, quick):
    results = write_experiment(tmp_path, tiny, seeds=[1, 2])
    for number, record in enumerate(results["runs"]):
        shutil.rmtree(tmp_path / record["run"])
        after = {"nll_nats": 1.5, "expected_calibration_error": 0.02 + 0.03 * number}
        before = {"nll_nats": 1.6, "expected_calibration_error": 0.05}
        record["calibration"] = {"temperature": 1.1, "before": before, "after": after}
        curve = {"train_nll": [4.0, 3.0], "valid_nll": [4.1, 3.2]}
        curve.update(train_accuracy=[30, 40], valid_accuracy=[31, 39])
        record["curves"] = {"updates": [10, 20], **curve}
    kept = {**results, "data": None, "p_values": {EL: {"test": {"1": 0.25}}}}
    (tmp_path / "results.json").write_text(json.dumps(kept))
    text = text_of(report(tmp_path))
    assert "seed 1 +2.60 +5.20 -2.60 0.250" in text and "Translations" not in text
    assert "mean over seeds: 5.00% (CE), 5.00% (EL)" in text
    assert f"it falls to 3.50% (CE), rises to 9.50% ({EL})" in text
    assert "CE 2 1.100 ± 0.000 5.00 ± 0.00 3.50 ± 2.12" in text
    assert "Validation set. Lower is better." in text


def test_an_analysis_alone_makes_a_report(copy, tmp_path):
    (copy / "results.json").rename(tmp_path / "results.json")
    made = report(copy, "A part")
    assert "A part" in made.read_text()
    assert "Scores" not in text_of(made) and "Measures of tokens" in text_of(made)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("results.json", lambda value: value.pop("checkpoints")),
        ("results.json", lambda value: value["runs"][0].update(scores=None)),
        ("results.json", lambda value: value.update(runs=3)),
        ("results.json", None),
        ("analysis/analysis.json", lambda value: value.update(models=None)),
        ("analysis/analysis.json", lambda value: value["models"]["CE"].pop("by_frequency")),
        ("analysis/analysis.json", lambda value: value["models"]["CE"].update(calibration=None)),
        ("analysis/analysis.json", None),
    ],
)
def test_a_damaged_or_cut_file_is_named_in_one_line(copy, name, how):
    before = (copy / "report.html").read_bytes()
    if how:
        change(copy, name, how)
    else:
        (copy / name).write_text("[")
    with pytest.raises(UserError) as refusal:
        report(copy)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (copy / "report.html").read_bytes() == before


def test_a_number_that_is_not_finite_is_a_dash(copy):
    def remove(value):
        model = value["models"]["CE"]
        model["quantities"]["margin"]["mean"] = None
        model["temperature"]["after"]["nll_nats"] = None
        model["by_frequency"]["rare"]["accuracy"]["value"] = None
        value["ood"]["shuffled words"]["models"]["CE"]["mean_log_prob"]["auroc"]["low"] = None
        value["noise"]["characters"]["CE"]["bleu"]["high"][1] = None

    change(copy, "analysis/analysis.json", remove)
    assert "margin to the best other class, logits ↑ CE – " in text_of(report(copy))


def test_translations_that_are_cut_are_refused(copy):
    path = copy / "ce-seed1" / "evaluation" / f"test-{KIND}" / "hypotheses.en"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:40]))
    with pytest.raises(UserError, match="40"):
        report(copy)
    path.unlink()
    with pytest.raises(UserError, match=r"there is no .*hypotheses\.en"):
        report(copy)


def test_nothing_to_report_and_a_report_that_is_being_made_are_refused(copy, tmp_path):
    with pytest.raises(UserError, match=r"neither results\.json nor analysis"):
        report(tmp_path)
    busy = pytest.raises(UserError, match="another process is making the report")
    with locked(copy / "report.lock", "free"), busy:
        report(copy)


LOOK = """<script>
const problems = [];
for (const image of document.images) if (!image.complete || image.naturalWidth < 300)
  problems.push("picture " + image.alt);
for (const box of document.querySelectorAll(".scroll")) if (box.scrollWidth > box.clientWidth)
  problems.push(box.getAttribute("aria-label"));
if (document.documentElement.scrollWidth > innerWidth) problems.push("page");
document.title = JSON.stringify([innerWidth, ...problems]);
</script></body>"""


def looked_at(page_of_report, width):
    """Width of a window in Chromium, and what is cut off in it or has not been loaded."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("there is no Chromium to open the page in")
    look = page_of_report.with_name("look.html")
    opened = page_of_report.read_text().replace("<details>", "<details open>")
    look.write_text(opened.replace("</body>", LOOK))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    user = f"--user-data-dir={look.with_name('user')}"
    shown = subprocess.run(
        [browser, *options, user, "--dump-dom", look.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", shown.stdout)[1]))


def test_in_a_browser_nothing_is_cut_off(run_folder, copy):
    for width in (500, 1200, 1440):
        assert looked_at(run_folder / "report.html", width) == [width]
    figures = {"CE": [35.09, 0.07], EL: [35.5, 0.11]}
    published = {"source": "the paper's", "measure": "tokenized_bleu", "scores": figures}
    name_two_test_sets(copy, tokenizer="moses", published=published)
    widest = report(copy)
    widest.write_text(re.sub("<img .*?>", "", widest.read_text()))  # they are not drawn here
    assert looked_at(widest, 1200) == [1200]
