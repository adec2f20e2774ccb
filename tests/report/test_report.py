import html
import json
import re
import shutil
import subprocess
import sys

import pytest
from made import AWKWARD, KIND, write_experiment

from el_fairseq.common.cli import UserError
from el_fairseq.common.files import locked
from el_fairseq.experiments import table as tables_of
from el_fairseq.experiments.results import read
from el_fairseq.report.__main__ import report


@pytest.fixture(scope="module")
def run_folder(tiny, tmp_path_factory):
    """Two runs, and the report made of them and of their analysis."""
    folder = tmp_path_factory.mktemp("reported") / "a run"
    write_experiment(folder, tiny, seeds=[1])
    assert report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def text(run_folder):
    """What a reader sees of it."""
    return text_of(run_folder / "report.html")


@pytest.fixture
def quick(monkeypatch):
    """Reports without an analysis of their own, their pictures filled but not rendered."""
    monkeypatch.setattr("el_fairseq.report.__main__.analyse", lambda *_: None)
    monkeypatch.setattr("el_fairseq.report.figures.png", lambda figure: b"")


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


def test_the_page_needs_nothing_but_itself_and_is_whole(run_folder, text):
    page = (run_folder / "report.html").read_text()
    addresses = re.findall(r'(?:src|href|srcset)="([^"]*)"', page)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "@import" not in page and "url(" not in page
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == page.count("<img ") == 15
    assert all(len(caption.strip()) > 20 for caption in captions)
    assert page.count("<section id=") == 11
    assert "undefined" not in page.lower()
    assert AWKWARD not in page and AWKWARD in text


def test_the_tables_are_those_of_the_table_and_what_is_noted_there_is_noted(run_folder, text):
    results = read(run_folder)
    for table in tables_of.all_tables(results):
        assert table.title in text
        for row in table.rows:
            assert " ".join(" ".join(row).split()) in text
    assert all(note in text for note in tables_of.notes(results))


def test_the_set_up_says_what_was_trained_on_what_by_which_commands(text, tiny):
    for fact in (
        "What the loss did: A made-up language EL against CE",
        f"corpus {tiny.folder} sentence pairs train 300, valid 30, test 43 direction de to en",
        "CE --criterion label_smoothed_cross_entropy, seed 1 "
        "EL --criterion encouraging_loss --log-end 0.5, seed 1 checkpoints last 2 "
        "fairseq-train options of all runs --arch transformer --dropout 0.2 ",
        f"versions python {sys.version.split()[0]}, ",
        "fairseq-train 'the data' --seed 1 ",
        "fairseq-generate 'the data' --path el-seed1.pt ",
    ):
        assert fact in text
    assert re.search(r"CE as analysed \S.*/averaged\.pt, \d+,\d{3} parameters", text)
    assert re.search(r"-m el_fairseq\.analysis \S+ .* bash scripts/report\.sh '.*a run'$", text)


@pytest.mark.parametrize(
    ("bleu", "says"),
    [
        ([(30, 32.5)], "+2.50 BLEU, with one seed. One seed does not tell"),
        ([(30, 32.5), (31, 33.6)], "More BLEU than CE : zero lies below the interval."),
        ([(30, 27.5), (31, 28.4)], "Less BLEU than CE : zero lies above the interval."),
        ([(30, 29), (30, 31.5)], "These seeds do not tell the two losses apart"),
        ([(30, 31), (31, 32)], "+1.00 BLEU with each of 2 seeds."),
        # The mean of -0.61, -0.62, -0.61 and -0.62, as the differences are rounded.
        (
            [(41.84, 41.23), (41.11, 40.49), (40.95, 40.34), (40.0, 39.38)],
            "on the test set: -0.61 BLEU on average over 4 seeds, 95 % interval",
        ),
    ],
)
def test_the_first_line_says_what_the_seeds_can_tell(tiny, tmp_path, quick, bleu, says):
    results = write_experiment(tmp_path, tiny, seeds=range(1, len(bleu) + 1))
    for record in results["runs"]:
        pair = bleu[record["seed"] - 1]
        record["scores"]["test"][KIND]["bleu"] = pair[record["loss"] == "EL"]
    (tmp_path / "results.json").write_text(json.dumps({**results, "data": None}))
    first, table = text_of(report(tmp_path)).split("Scores", 1)
    assert says in first
    assert "significant" not in first
    mean = re.search(r"mean ([+-]\d\.\d\d)", table)
    assert mean is None or f"{mean[1]} BLEU" in first


@pytest.fixture
def two_test_sets(run_folder, tiny, tmp_path, quick):
    """A folder of runs with the test set ``talks``, beside another, and a corpus that has both."""
    folder, tests = tmp_path / "two", ["talks", "news-of-the-year-2019"]
    shutil.copytree(run_folder / "analysis", folder / "analysis")
    corpus = shutil.copytree(tiny.text, folder / "data" / "text").parent
    manifest = {"source": "de", "target": "en", "tokenizer": None}
    manifest["tests"] = dict(zip(tests, ("test", "valid")))
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    results = write_experiment(folder, tiny, [1], tests)
    results.update(data=str(corpus), tokenizer="moses")
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_two_test_sets_are_told_apart_wherever_one_is_meant(two_test_sets):
    header, *sections = re.split("<section ", report(two_test_sets).read_text())
    assert header.count("the test set talks") == 3  # BLEU, accuracy, calibration error
    told = {re.match('id="(.*?)"', part)[1]: "the test set talks" in part for part in sections}
    assert [name for name, says in told.items() if not says] == ["scores", "curves", "commands"]
    change(two_test_sets, "results.json", lambda results: results.update(tests=["talks"]))
    says = "accuracy on the 357 tokens of 43 sentences in the test set talks"
    assert says in text_of(report(two_test_sets))


def test_shares_intervals_every_registered_measure_and_dashes_are_shown(copy):
    def changed(analysis):
        shown = {"title": "doubt", "unit": "doubts", "higher_is_better": False, "form": ".1f"}
        analysis["measures"]["doubt"] = shown
        for model in analysis["models"].values():
            model["quantities"]["doubt"] = {**model["quantities"]["entropy"], "mean": 77.7}
        # What is not finite.
        model = analysis["models"]["EL"]
        model["quantities"]["margin"]["mean"] = None
        model["temperature"]["after"]["nll_nats"] = None
        model["by_frequency"]["rare"]["accuracy"]["value"] = None
        analysis["ood"]["shuffled words"]["models"]["CE"]["mean_log_prob"]["auroc"]["low"] = None
        analysis["noise"]["characters"]["CE"]["bleu"][1]["high"] = None

    change(copy, "analysis/analysis.json", changed)
    text = text_of(report(copy))
    assert "tokens with p > 0.5 their share of CE's gradient their share of EL's gradient" in text
    share = r"\d+\.\d\d% \[\d+\.\d\d%, \d+\.\d\d%\]"
    assert re.search(rf"CE \d+\.\d\d% {share} \d\.\d{{4}} \d\.\d{{3}} {share}", text)
    assert re.search(rf"frequent CE 120 {share}", text)
    assert "doubt, doubts ↓ CE 77.7 " in text
    assert "margin to the best other class, logits ↑ EL – " in text
    assert re.search(r"fitted on the validation set: \d+\.\d\d% \(CE\), ", text)


def test_kept_results_without_texts_show_p_values_and_curves(tiny, tmp_path, quick):
    results = write_experiment(tmp_path, tiny, seeds=[1, 2])
    for record in results["runs"]:
        shutil.rmtree(tmp_path / record["run"])
        curve = {"train_nll": [4.0, 3.0], "valid_nll": [4.1, 3.2]}
        curve.update(train_accuracy=[30, 40], valid_accuracy=[31, 39])
        record["curves"] = {"updates": [10, 20], **curve}
    kept = {**results, "data": None, "p_values": {"EL": {"test": {"1": 0.25}}}}
    (tmp_path / "results.json").write_text(json.dumps(kept))
    text = text_of(report(tmp_path))
    assert "seed 1 +2.60 +5.20 -2.60 0.250" in text and "Translations" not in text
    assert "Validation set. Lower is better." in text


def test_an_analysis_alone_makes_a_report(copy, tmp_path):
    (copy / "results.json").rename(tmp_path / "results.json")
    made = report(copy, "A part")
    assert "A part" in made.read_text()
    assert "Scores" not in text_of(made) and "Measures of tokens" in text_of(made)


@pytest.mark.parametrize(
    ("name", "how", "says"),
    [
        ("results.json", lambda text: "[", r"results\.json is damaged"),
        ("analysis/analysis.json", lambda text: "[", r"analysis\.json is damaged"),
        ("analysis/analysis.json", lambda text: text.replace("nll_nats", "?"), "is damaged, or"),
        (f"ce-seed1/evaluation/test-{KIND}/hypotheses.en", lambda text: text[:99], "is damaged"),
    ],
)
def test_a_damaged_or_cut_file_is_named_in_one_line(copy, name, how, says):
    before = (copy / "report.html").read_bytes()
    (copy / name).write_text(how((copy / name).read_text()))
    with pytest.raises(UserError, match=f"^.*{says}.*$"):
        report(copy)
    assert (copy / "report.html").read_bytes() == before


def test_nothing_to_report_and_another_process_are_refused(copy, tmp_path):
    with pytest.raises(UserError, match=r"neither results\.json nor analysis"):
        report(tmp_path)
    busy = pytest.raises(UserError, match=r"report in .* is being made by another process")
    with locked(copy / "report.lock", "free"), busy:
        report(copy)


LOOK = """<script type="module">
const problems = [];
for (const image of document.images) if (!image.complete || image.naturalWidth < 300)
  problems.push("picture " + image.alt);
for (const box of document.querySelectorAll(".scroll"))
  if (innerWidth > 1000 && box.scrollWidth > box.clientWidth)
    problems.push(box.getAttribute("aria-label"));
if (document.querySelectorAll("nav a").length != document.querySelectorAll("section").length)
  problems.push("nav");
if (document.documentElement.scrollWidth > innerWidth) problems.push("page");
document.title = JSON.stringify([innerWidth, ...problems]);
</script></body>"""


def looked_at(page, width):
    """Width of a window in Chromium, and what is cut off in it or has not been loaded."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("there is no Chromium to open the page in")
    look = page.with_name("look.html")
    opened = page.read_text().replace("<details>", "<details open>")
    look.write_text(opened.replace("</body>", LOOK))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    command += [f"--user-data-dir={look.with_name('user')}", "--dump-dom", look.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", shown)[1]))


def test_in_a_browser_nothing_is_cut_off(run_folder, two_test_sets):
    for width in (500, 1200, 1440):
        assert looked_at(run_folder / "report.html", width) == [width]
    widest = report(two_test_sets)
    widest.write_text(re.sub("<img .*?>", "", widest.read_text()))  # they are not drawn here
    assert looked_at(widest, 1200) == [1200]
