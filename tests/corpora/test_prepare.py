import json
import re
import runpy
import sys

import pytest
import sacremoses
from conftest import ROOT

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import iwslt
from el_fairseq.corpora.prepare import named_tests, prepare

LINES = "low lower lowest new newer newest\n" * 3


def write_text(folder):
    (folder / "text").mkdir()
    for subset in ("train", "valid", "test"):
        for language in ("de", "en"):
            (folder / "text" / f"{subset}.{language}").write_text(LINES)
    pairs = dict.fromkeys(("train", "valid", "test"), 3)
    return {"source": "de", "target": "en", "tokenizer": None, "pairs": pairs, "dropped": {}}


def made(out, write=write_text, merges=4):
    prepare(out, {"merges": merges}, write)


def test_an_empty_folder_becomes_the_corpus_and_a_corpus_stays_what_it_is(tmp_path, capsys):
    out = tmp_path / "corpus"
    out.mkdir()
    made(out)
    found = json.loads((out / "manifest.json").read_text())
    assert found["subwords"] == "subword-nmt" and found["options"] == {"merges": 4}
    assert found["versions"]["sacremoses"] == sacremoses.__version__
    assert "bin/train.de-en.de.bin" in found["sha256"] and found["warnings"] == []
    assert not any("log" in name for name in found["sha256"])  # they hold times
    assert "3 sents" in (out / "bin" / "preprocess.log").read_text()
    capsys.readouterr()
    made(out, write=None)
    assert capsys.readouterr().err == f"The corpus is there: {out}\n"
    with pytest.raises(UserError, match="was made with merges 4, now it is 5: choose another"):
        made(out, merges=5)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_every_count_that_is_not_the_published_one_is_told(tmp_path):
    expected = iwslt.CORPORA["iwslt14-de-en"].expected
    made(tmp_path / "corpus", lambda folder: {**write_text(folder), "expected": expected}, 500)
    found = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert [warning.partition(": this is not")[0] for warning in found["warnings"]] == [
        "the text gives 12 merges, not 500",
        *("train: 3, expected 160,239", "valid: 3, expected 7,283", "test: 3, expected 6,750"),
        *("types de: 16, expected 8,848", "types en: 16, expected 6,632"),
    ]


def test_what_is_no_corpus_is_left_as_it_is(tmp_path):
    theirs = tmp_path / "out" / "thesis.tex"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    for out in (theirs, theirs.parent):
        with pytest.raises(UserError, match="exists; it is not changed: choose another --out"):
            made(out)
    assert theirs.read_text() == "theirs" and list(tmp_path.rglob("*")) == [theirs.parent, theirs]


def test_paths_that_fairseq_cannot_read_are_refused(tmp_path):
    for name in ("a:b", "a,b"):
        with pytest.raises(UserError, match=r"fairseq cannot be given .* choose another"):
            made(tmp_path / name)


def test_test_sets_have_names_of_their_own():
    tests, paths = named_tests(["a/b=c/x", "news=y", "z"])
    assert tests == {"test": "test", "news": "test1", "test2": "test2"}
    assert paths == {"test": "a/b=c/x", "test1": "y", "test2": "z"}
    for texts in (["news=x", "news=y"], ["valid=x"], ["test1=x"], ["x", "test=y"], ["all=x"]):
        with pytest.raises(UserError, match=r"the name .* is that of another set"):
            named_tests(texts)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("script", sorted((ROOT / "data-prep").glob("*.sh")), ids=lambda x: x.stem)
def test_each_script_runs_a_module_that_names_it_in_its_help(script, monkeypatch, capsys):
    module, *words = re.search(r"run_module (.*) \"\$@\"", script.read_text())[1].split()
    monkeypatch.setattr(sys, "argv", [module, *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: bash data-prep/{script.name} ")
