import errno
import json
import re
import runpy
import sys

import pytest
from conftest import ROOT

from el_fairseq.common.cli import UserError
from el_fairseq.common.locks import only_here
from el_fairseq.corpora import prepare as module
from el_fairseq.corpora.prepare import fairseq_path, prepare

LINES = "low lower lowest new newer newest\n" * 3


def write_text(folder):
    (folder / "text").mkdir()
    for subset in ("train", "valid", "test"):
        for language in ("de", "en"):
            (folder / "text" / f"{subset}.{language}").write_text(LINES)
    pairs = dict.fromkeys(("train", "valid", "test"), 3)
    found = {"source": "de", "target": "en", "tokenizer": None, "pairs": pairs, "dropped": {}}
    return {**found, "options": {"merges": 4}}


def made(out, write=write_text, **given):
    prepare(out, given, write, kind="subword-nmt", size=4, joined=True)


def test_an_empty_folder_becomes_the_corpus_and_a_corpus_stays_what_it_is(tmp_path, capsys):
    out = tmp_path / "corpus"
    out.mkdir()
    made(out)
    found = json.loads((out / "manifest.json").read_text())
    assert found["types"] == {"de": 16, "en": 16} and found["subwords"] == "subword-nmt"
    assert "3 sents" in (out / "bin" / "preprocess.log").read_text()
    capsys.readouterr()
    made(out, write=None, merges=4)
    assert capsys.readouterr().err == f"The corpus is there: {out}\n"
    with pytest.raises(UserError, match="was made with merges 4, now it is 5: choose another"):
        made(out, merges=5)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_corpus_is_left_as_it_is(tmp_path, kind):
    out = tmp_path / "out"
    theirs = out
    if kind == "folder":
        out.mkdir()
        theirs = out / "thesis.tex"
    theirs.write_text("theirs")
    with pytest.raises(UserError, match=r"is there and is no corpus .* choose another --out"):
        made(out)
    assert theirs.read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_second_preparation_at_the_same_time_is_told(tmp_path):
    with only_here(tmp_path / ".corpus.lock", "held"), pytest.raises(UserError, match="being made"):
        made(tmp_path / "corpus")


def test_a_preparation_that_looked_before_another_was_done_leaves_its_corpus(tmp_path, monkeypatch):
    out = tmp_path / "corpus"
    looks = iter([False])
    is_there = module.is_there

    def looked_early(*arguments):
        if next(looks, True):
            return is_there(*arguments)
        out.mkdir()
        (out / "manifest.json").write_text("{}")
        return False

    monkeypatch.setattr(module, "is_there", looked_early)
    made(out, write=None)
    assert [path.name for path in tmp_path.rglob("*")] == ["corpus", "manifest.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    def full(folder):
        (folder / "text").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"corpus could not be written \(No space left.*make room"):
        made(tmp_path / "corpus", full)
    assert list(tmp_path.iterdir()) == []


def test_sentences_too_long_for_fairseqs_models_are_told(tmp_path, capsys):
    def long(folder):
        found = write_text(folder)
        (folder / "text" / "test.en").write_text("a " * 1023 + "a\n" + "b\n" * 2)
        return found

    made(tmp_path / "corpus", long)
    assert "warning: test.en has a sentence of 1,024 subwords" in capsys.readouterr().err
    assert json.loads((tmp_path / "corpus" / "manifest.json").read_text())["warnings"]


def test_paths_that_fairseq_cannot_read_are_refused():
    for text, message in (("a:b", "colon"), ("a,b", "comma"), ("a\udcff", "not UTF-8")):
        with pytest.raises(Exception, match=message):
            fairseq_path(text)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("script", sorted((ROOT / "data-prep").glob("*.sh")), ids=lambda x: x.stem)
def test_each_script_runs_a_module_that_names_it_in_its_help(script, monkeypatch, capsys):
    module = re.search(r"run_module (\S+)", script.read_text())[1]
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: bash data-prep/{script.name} ")
