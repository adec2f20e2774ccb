import errno
import os

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.common.files import making, writing


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "scores.json"
    with writing(path) as file:
        file.write("{}")
        assert not path.exists()
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_write_keeps_the_earlier_file_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("before")
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    folder = tmp_path / "text"
    with pytest.raises(RuntimeError), making(folder) as unfinished:
        (unfinished / "train.de").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with making(folder) as unfinished:
        (unfinished / "train.de").write_text("whole")
    assert (folder / "train.de").read_text() == "whole"


def test_what_a_killed_process_left_beside_does_not_get_into_the_folder(tmp_path):
    left = tmp_path / ".text.unfinished"
    left.mkdir()
    (left / "stale").write_text("")
    with making(tmp_path / "text") as unfinished:
        assert list(unfinished.iterdir()) == []


@pytest.mark.parametrize("kind", [writing, making])
def test_a_full_disk_is_told_with_the_file_and_what_to_do(tmp_path, kind):
    path = tmp_path / "results.json"
    told = pytest.raises(UserError, match=r"results\.json could not be written .*: make room")
    with told, kind(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_other_failures_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), writing(tmp_path / "results.json"):
        raise PermissionError("not here")
