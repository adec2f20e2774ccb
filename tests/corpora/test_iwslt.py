import json
import re
import shutil
import sys

import pytest
import sacremoses
from iwslt_archives import de_en, fr_en, serving, write_archive

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import iwslt, iwslt14, iwslt17
from el_fairseq.corpora.checksums import checksum
from el_fairseq.corpora.pairs import reason_to_drop

CORPORA = {"iwslt14": (iwslt14, de_en), "iwslt17": (iwslt17, fr_en)}


def prepared(tmp_path, corpus, files, name="talks.tgz"):
    """Text files by name, and the manifest, of an archive with ``files``."""
    archive = write_archive(tmp_path / name, files)
    out = tmp_path / "corpus"
    out.mkdir()
    record = {"name": name, "checksum": "md5:0", "published": False}
    found = iwslt.write_text(corpus, archive, record, out)
    texts = {path.name: path.read_text(encoding="utf-8") for path in (out / "text").iterdir()}
    return texts, found


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


def test_de_en_is_what_a_naive_second_implementation_makes(tmp_path):
    files = de_en()
    texts, found = prepared(tmp_path, iwslt14, files)
    assert texts == naive_de_en(files)
    assert found["pairs"] == {
        name: texts[f"{name}.en"].count("\n") for name in ("train", "valid", "test")
    }
    step = found["steps"]["train.tags.de-en.*"]
    assert step["pairs"] == sum(found["dropped"].values()) + sum(
        found["pairs"][name] for name in ("train", "valid")
    )


def test_fr_en_is_what_a_naive_second_implementation_makes(tmp_path):
    files = fr_en()
    texts, _ = prepared(tmp_path, iwslt17, files, "talks.zip")
    assert texts == naive_fr_en(files)


def test_de_en_counts_what_it_drops_and_why(tmp_path):
    _, found = prepared(tmp_path, iwslt14, de_en())
    assert found["dropped"]["a side is empty"] == 2
    assert found["dropped"]["a side has over 175 tokens"] == 1
    assert found["dropped"]["one side has over 1.5 times the tokens of the other"] >= 1
    assert found["steps"]["IWSLT14.TEDX.dev2012.de-en.*.xml"]["with an empty side"] == 1


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("a b", "c d", None),
        ("a b c", "c d", None),
        ("a b c d", "c d", "1.5 times"),
        ("c d", "a b c d", "1.5 times"),
        ("w " * 174 + "w", "w " * 174 + "w", None),
        ("w " * 175 + "w", "w " * 174 + "w", "over 175"),
        ("", "c", "empty"),
        ("", "", "empty"),
    ],
)
def test_pairs_are_dropped_by_the_limits_of_the_published_data(source, target, reason):
    found = reason_to_drop(source, target, iwslt14.MAX_TOKENS, iwslt14.MAX_RATIO)
    assert (found is None) if reason is None else (reason in found)


@pytest.mark.parametrize("name", CORPORA)
def test_windows_line_ends_and_byte_order_marks_change_nothing(tmp_path, name):
    corpus, make = CORPORA[name]
    unix = make()
    windows = {
        name: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") for name, content in unix.items()
    }
    texts = []
    for number, files in enumerate((unix, windows)):
        folder = tmp_path / str(number)
        folder.mkdir()
        texts.append(prepared(folder, corpus, files)[0])
    assert texts[0] == texts[1]


def test_entities_stay_as_they_stand(tmp_path):
    texts, _ = prepared(tmp_path, iwslt14, de_en())
    assert "q &amp; amp ; a &amp; gt ; everything" in texts["test.en"]


def changed(files, name, change):
    return {**files, name: change(files[name])}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "train.tags.de-en.de",
            lambda content: content.replace(b"Entfernt", b"Entf\xfcrnt", 1),
            r"train\.tags\.de-en\.de, line \d+: byte 0xfc is not UTF-8",
        ),
        (
            "train.tags.de-en.en",
            lambda content: content + b"One more line.\n",
            r"train\.tags\.de-en\.de has \d+ sentences and train\.tags\.de-en\.en \d+",
        ),
        (
            "IWSLT14.TED.tst2012.de-en.de.xml",
            lambda content: content.replace(b"<seg id", b"<gone id", 1),
            r"tst2012\.de-en\.de\.xml has 19 sentences and .*tst2012\.de-en\.en\.xml 20",
        ),
        (
            "train.tags.de-en.de",
            lambda content: b"",
            r"train\.tags\.de-en\.de has 0 sentences",
        ),
    ],
)
def test_text_that_cannot_be_right_is_refused_with_file_and_place(tmp_path, name, change, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, iwslt14, changed(de_en(), name, change))


def test_a_segment_without_an_end_is_told_and_kept(tmp_path, capsys):
    files = changed(
        de_en(),
        "IWSLT14.TED.tst2011.de-en.en.xml",
        lambda content: content.replace(b"Both </seg>", b"Both\n</seg>"),
    )
    texts, _ = prepared(tmp_path, iwslt14, files)
    assert "\nboth\n" in texts["test.en"]
    assert re.search(
        r"tst2011\.de-en\.en\.xml, line \d+: a segment has no", capsys.readouterr().err
    )


def command_line(monkeypatch, corpus, tmp_path, *arguments):
    """The corpus module's command, as far as text/; returns the manifest up to there."""
    folder = tmp_path / "corpus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    words = ["iwslt", "--out", folder, "--workers", "1", *arguments]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    found = []
    monkeypatch.setattr(iwslt, "prepare", lambda *a, **_: found.append(a[2](folder)))
    iwslt.main(corpus)
    return found[0]


def test_an_archive_given_by_hand_is_used_and_said_to_be_unchecked(tmp_path, monkeypatch, capsys):
    archive = write_archive(tmp_path / "mine.zip", de_en())
    found = command_line(monkeypatch, iwslt14, tmp_path, "--archive", archive)
    assert re.search(r"mine\.zip is md5:\w+, expected md5:10936.*checked", capsys.readouterr().err)
    assert found["archive"]["published"] is False


def test_an_archive_given_with_another_checksum_is_refused(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "mine.zip", de_en())
    with pytest.raises(UserError, match=r"mine\.zip is sha256:\w+, expected sha256:0+;"):
        command_line(
            monkeypatch, iwslt14, tmp_path, "--archive", archive, "--checksum", "sha256:" + 64 * "0"
        )


def test_the_archive_is_downloaded_once_and_again_only_if_it_is_damaged(tmp_path, monkeypatch):
    content = write_archive(tmp_path / "served.tgz", fr_en()).read_bytes()
    wanted = checksum(tmp_path / "served.tgz", "md5")
    cached = tmp_path / "archives" / "fr-en.tgz"
    with serving(content, "whole") as (url, given):
        for _ in range(2):
            command_line(monkeypatch, iwslt17, tmp_path, "--url", url, "--checksum", wanted)
        assert len(given) == 1
        cached.write_bytes(content[:-1])
        command_line(monkeypatch, iwslt17, tmp_path, "--url", url, "--checksum", wanted)
        assert len(given) == 2
    assert cached.read_bytes() == content


def test_all_segments_of_a_line_are_kept(tmp_path):
    path = tmp_path / "set.xml"
    path.write_text('<seg id="1"> a </seg><seg id="2">b</seg> <seg id="3">c </seg>\n')
    assert list(iwslt.segments_of(path)) == ["a", "b", "c"]


@pytest.mark.parametrize("option", ["--merges abc", "--merges 0", "--merges -5", "--workers 0"])
def test_a_wrong_number_is_refused_before_any_work(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["iwslt", "--out", str(tmp_path / "out"), *option.split()])
    with pytest.raises(SystemExit) as ended:
        iwslt.main(iwslt14)
    assert ended.value.code == 2 and "expected a whole number from 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_of_another_archive_or_size_is_refused(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "mine.zip", de_en())
    found = command_line(monkeypatch, iwslt14, tmp_path, "--archive", archive)
    (tmp_path / "corpus" / "manifest.json").write_text(json.dumps(found))
    monkeypatch.undo()
    other = write_archive(tmp_path / "other.zip", de_en(), folder="elsewhere")
    for options in (["--archive", other], ["--merges", "5"]):
        words = ["iwslt", "--out", tmp_path / "corpus", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(UserError, match=r"was made with (archive|merges) \S+, now it is"):
            iwslt.main(iwslt14)
