import hashlib
import re
import subprocess
import time

import pytest
from iwslt_archives import serving

from el_fairseq.common.cli import UserError
from el_fairseq.corpora.checksums import checked_checksum, checksum
from el_fairseq.corpora.downloads import fetch

CONTENT = b"0123456789" * 40_000
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_the_git_blob_checksum_is_what_git_prints(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    git = subprocess.run(
        ["git", "hash-object", path], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert checksum(path, "git-blob") == "git-blob:" + git.stdout.strip()


@pytest.mark.parametrize("trouble", ["cut", "short", "other", 500, 503, 429])
def test_a_download_that_fails_once_is_tried_again(tmp_path, trouble):
    path = tmp_path / "new" / "talks.tgz"
    with serving(CONTENT, trouble, "whole") as (url, given):
        fetch([url], path, MD5, "(--archive FILE)")
    assert given == [trouble, "whole"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("trouble", "requests", "reason"),
    [
        ("cut", 5, "200000 bytes read|IncompleteRead"),
        ("short", 5, "expected md5:"),
        ("other", 5, "expected md5:"),
        (500, 5, "500"),
        (404, 5, "404"),
    ],
)
def test_a_download_that_keeps_failing_leaves_nothing_and_says_what_to_do(
    tmp_path, trouble, requests, reason
):
    path = tmp_path / "talks.tgz"
    with serving(CONTENT, trouble) as (url, given), pytest.raises(UserError) as caught:
        fetch([url], path, MD5, "(--archive FILE)")
    assert len(given) == requests
    assert list(tmp_path.iterdir()) == []
    message = str(caught.value)
    assert url in message and re.search(reason, message) and "--archive FILE" in message


def test_the_next_address_is_tried_where_one_has_nothing(tmp_path):
    path = tmp_path / "talks.tgz"
    with serving(CONTENT, 404) as (first, _), serving(CONTENT, "whole") as (second, _):
        fetch(["nonsense://talks.tgz", first, second], path, MD5, "(--archive FILE)")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("text", ["crc32:00", "md5:00", "md5:" + 32 * "x", 32 * "0", ""])
def test_what_is_no_checksum_is_refused_in_one_line(text):
    with pytest.raises(UserError, match=r"expected KIND:HEX with KIND one of md5 \(32 digits\)"):
        checked_checksum(text)


def test_a_checksum_in_upper_case_is_the_same(tmp_path):
    path = tmp_path / "talks.tgz"
    with serving(CONTENT, "whole") as (url, given):
        fetch([url], path, checked_checksum(MD5.upper()), "")
    assert given == ["whole"] and path.read_bytes() == CONTENT
