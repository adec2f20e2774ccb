import hashlib
import re
import subprocess
import tarfile
import time

import pytest
from iwslt_archives import serving, write_archive

from el_fairseq.common.cli import UserError
from el_fairseq.corpora.sources import checksum, extract, fetch

FILES = {"a.txt": b"first\n", "b.txt": b"second\n" * 5000, "other.txt": b"not asked for\n"}
CONTENT = b"0123456789" * 40_000
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize("name", ["talks.tgz", "talks.zip"])
def test_the_members_asked_for_are_found_in_any_folder(tmp_path, name):
    archive = write_archive(tmp_path / name, FILES, folder="./some/folder")
    paths = extract(archive, ["b.txt", "a.txt"], tmp_path / "out")
    assert [path.read_bytes() for path in paths] == [FILES["b.txt"], FILES["a.txt"]]


def link(path):
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo("a.txt")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(member)


def cut(path):
    path.write_bytes(write_archive(path, FILES).read_bytes()[:100])


def flipped(path, place):
    damaged = bytearray(write_archive(path, FILES).read_bytes())
    damaged[int(place * len(damaged))] ^= 4
    path.write_bytes(damaged)


def twice(path):
    write_archive(path, {"2013/a.txt": b"old", "2014/a.txt": b"new"})


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("up.tgz", lambda path: write_archive(path, FILES, ".."), "cannot be unpacked .*outside"),
        ("ln.tgz", link, "absolute"),
        ("cut.tgz", cut, "cannot be unpacked"),
        ("none.zip", lambda path: path.touch(), "cannot be unpacked"),
        ("sum.tgz", lambda path: flipped(path, 0.9999), "cannot be unpacked"),
        ("bit.zip", lambda path: flipped(path, 0.1), "cannot be unpacked"),
        ("twice.zip", twice, r"holds 2 files a\.txt, expected one"),
        ("lacks.tgz", lambda path: write_archive(path, {"b.txt": b""}), r"holds 0 files a\.txt"),
    ],
)
def test_an_archive_that_is_not_right_is_one_clear_line(tmp_path, name, make, reason):
    archive = tmp_path / name
    make(archive)
    with pytest.raises(UserError, match=reason) as told:
        extract(archive, ["a.txt"], tmp_path / "in" / "out")
    assert str(archive) in str(told.value) and "\n" not in str(told.value)
    assert not (tmp_path / "in" / "a.txt").exists()


def test_the_git_blob_checksum_is_what_git_prints(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    git = subprocess.run(
        ["git", "hash-object", path], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert checksum(path, "git-blob") == "git-blob:" + git.stdout.strip()


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("trouble", ["cut", "other", 503])
def test_a_download_that_fails_once_is_tried_again(tmp_path, no_waiting, trouble):
    path = tmp_path / "new" / "talks.tgz"
    with serving(CONTENT, trouble, "whole") as (url, given):
        fetch(url, path, MD5, "(--archive FILE)")
    assert given == [trouble, "whole"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [("cut", "200000 bytes read|IncompleteRead"), ("other", "expected md5:"), (404, "404")],
)
def test_a_download_that_keeps_failing_leaves_nothing_and_says_what_to_do(
    tmp_path, no_waiting, trouble, reason
):
    path = tmp_path / "talks.tgz"
    with serving(CONTENT, trouble) as (url, given), pytest.raises(UserError) as caught:
        fetch(url, path, MD5, "(--archive FILE)")
    assert len(given) == 5 and list(tmp_path.iterdir()) == []
    message = str(caught.value)
    assert url in message and re.search(reason, message) and "--archive FILE" in message
