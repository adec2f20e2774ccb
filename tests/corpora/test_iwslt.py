import json
import re
import shutil

import pytest
import sacremoses
from iwslt_archives import de_en, fr_en, serving, write_archive

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import iwslt
from el_fairseq.corpora.sources import checksum

DE_EN, FR_EN = iwslt.CORPORA


@pytest.fixture
def command(tmp_path, call):
    """The command of a corpus, into ``tmp_path/corpus``; returns texts by name and the manifest."""

    def make(name, *words):
        out = tmp_path / "corpus"
        call(lambda: iwslt.main(name), "--out", out, *words)
        texts = {path.name: path.read_text(encoding="utf-8") for path in (out / "text").iterdir()}
        return texts, json.loads((out / "manifest.json").read_text("utf-8"))

    return make


def naive_tokens(text, language):
    words = sacremoses.MosesTokenizer(language).tokenize(text)
    if words and words[-1].endswith(".") and not words[-1].endswith("..") and words[-1] != ".":
        words[-1:] = [words[-1][:-1], "."]
    return words


def naive_de_en(files):
    """The handbook's rules for De-En once more, as plainly as they can be written."""
    sides = {}
    for language in ("de", "en"):
        text = files[f"train.tags.de-en.{language}"].decode()
        text = re.sub(r".*(<url>|<talkid>|<keywords>).*\n", "", text)
        for tag in ("<title>", "</title>", "<description>", "</description>"):
            text = text.replace(tag, "")
        sides[language] = [naive_tokens(line, language) for line in text.split("\n")[:-1]]
    kept = []
    for german, english in zip(sides["de"], sides["en"]):
        shorter, longer = sorted((len(german), len(english)))
        if shorter > 0 and longer <= 175 and 2 * longer <= 3 * shorter:
            kept.append((german, english))
    split = {"train": [], "valid": [], "test": []}
    for number, pair in enumerate(kept, start=1):
        split["valid" if number % 23 == 0 else "train"].append(pair)
    for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"):
        both = []
        for language in ("de", "en"):
            text = files[f"IWSLT14.{name}.de-en.{language}.xml"].decode().replace("’", "'")
            found = re.findall(r'<seg id="\d+">(.*?)</seg>', text)
            both.append([naive_tokens(segment, language) for segment in found])
        split["test"] += zip(*both)
    return {
        f"{name}.{language}": "".join(
            # Python's lower() differs from Perl's in the final sigma alone.
            " ".join(pair[side]).lower().replace("ς", "σ") + "\n"
            for pair in pairs
        )
        for name, pairs in split.items()
        for side, language in enumerate(("de", "en"))
    }


def naive_fr_en(files):
    """The handbook's rules for Fr-En once more."""
    texts = {}
    for language in ("fr", "en"):
        lines = files[f"train.tags.fr-en.{language}"].decode().split("\n")[:-1]
        found = {"train": [line for line in lines if line[:1] != "<"]}
        for name, year in (("valid", "dev2010"), ("test", "tst2015")):
            text = files[f"IWSLT17.TED.{year}.fr-en.{language}.xml"].decode()
            found[name] = re.findall(r'<seg id="\d+">(.*?)</seg>', text)
        for name, segments in found.items():
            texts[f"{name}.{language}"] = "".join(
                " ".join(naive_tokens(segment, language)) + "\n" for segment in segments
            )
    return texts


def windows(content):
    return b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("as_it_is", [bytes, windows])
def test_de_en_is_what_a_naive_second_implementation_makes(tmp_path, command, as_it_is):
    files = de_en()
    archived = {name: as_it_is(content) for name, content in files.items()}
    archive = write_archive(tmp_path / "talks.tgz", archived)
    texts, made = command(DE_EN, "--archive", archive, "--merges", 9)
    assert texts == naive_de_en(files)
    assert made["pairs"] == {
        name: texts[f"{name}.en"].count("\n") for name in ("train", "valid", "test")
    }
    lines = files["train.tags.de-en.de"].decode().split("\n")[:-1]
    read = sum(not re.search("<url>|<talkid>|<keywords>", line) for line in lines)
    assert read == sum(made["dropped"].values()) + made["pairs"]["train"] + made["pairs"]["valid"]
    assert made["dropped"]["a side is empty"] == 2
    assert made["dropped"]["a side has over 175 tokens"] == 1
    assert "q &amp; amp ; a &amp; gt ; everything" in texts["test.en"]  # entities stay


def test_fr_en_is_what_a_naive_second_implementation_makes(tmp_path, command):
    archive = write_archive(tmp_path / "talks.zip", fr_en())
    texts, _ = command(FR_EN, "--archive", archive, "--pieces", 300)
    assert texts == naive_fr_en(fr_en())


def test_all_segments_of_a_line_are_kept_one_without_an_end_too(tmp_path):
    path = tmp_path / "set.xml"
    path.write_text('<seg id="1"> a </seg><seg id="2">b</seg> x <seg id="3">c \n d</seg>\n')
    assert list(iwslt.segments_of(path)) == ["a", "b", "c"]


def test_an_archive_given_by_hand_is_used_and_said_to_be_unchecked(tmp_path, command, capsys):
    archive = write_archive(tmp_path / "mine.zip", de_en())
    with pytest.raises(UserError, match=r"mine\.zip is sha256:\w+, expected sha256:0+:"):
        command(DE_EN, "--archive", archive, "--checksum", "sha256:" + 64 * "0")
    _, made = command(DE_EN, "--archive", archive)
    said = capsys.readouterr().err
    assert re.search(r"mine\.zip is md5:\w+, expected md5:10936.*checked", said)
    assert "warning: the text gives" in said
    assert made["archive"]["published"] is False and made["expected"] == {}
    command(DE_EN, "--archive", archive)
    assert "The corpus is there" in capsys.readouterr().err
    other = write_archive(tmp_path / "other.zip", de_en(), folder="elsewhere")
    for options in (["--archive", other], ["--merges", "5"]):
        with pytest.raises(UserError, match=r"was made with (archive|merges) \S+, now it is"):
            command(DE_EN, *options)


def test_the_archive_is_downloaded_once_and_again_only_if_it_is_damaged(tmp_path, command, capsys):
    content = write_archive(tmp_path / "served.tgz", fr_en()).read_bytes()
    options = ["--checksum", checksum(tmp_path / "served.tgz", "sha256"), "--pieces", 300]
    cached = tmp_path / "archives" / "fr-en.tgz"
    with serving(content, "whole") as (url, given):
        for requests, damage in ((1, None), (1, content[:-1]), (2, None)):
            command(FR_EN, "--url", url, *options)
            assert len(given) == requests and cached.read_bytes() == content
            for again in (options, options[2:]):  # also where the mirror is not named
                command(FR_EN, *again)
                assert "The corpus is there" in capsys.readouterr().err
            shutil.rmtree(tmp_path / "corpus")
            if damage:
                cached.write_bytes(damage)
