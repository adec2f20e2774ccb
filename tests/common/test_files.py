import errno
import os

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.common.files import lines_of, making, read_json, write_json, writing


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no"),
        (b"{", "is damaged"),
        (b"\xff", "is damaged"),
        (b"[]", "expected a dict"),
    ],
)
def test_damaged_state_is_named_with_what_to_do(tmp_path, content, problem):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{problem}.*: train that run again$") as error:
        read_json(path, "train that run again")
    assert str(path) in str(error.value)


def test_lines_end_at_newlines_alone_and_are_utf8(tmp_path):
    path = tmp_path / "text"
    path.write_text("one\u2028still one\n\ntwo\rtwo\nlast", encoding="utf-8", newline="\n")
    assert list(lines_of(path)) == ["one\u2028still one", "", "two\rtwo", "last"]
    path.write_bytes(b"")
    assert list(lines_of(path)) == []
    path.write_bytes("gut\nsch\xf6n\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 2: byte 0xf6 is not UTF-8"):
        list(lines_of(path))


def test_a_file_appears_only_when_it_is_whole_and_a_failing_write_keeps_the_earlier(tmp_path):
    path, value = tmp_path / "scores.json", {"ü": ["--lr", None]}
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    write_json(path, value)
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write("half")
        raise RuntimeError
    assert read_json(path, "") == value and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    folder, left = tmp_path / "text", tmp_path / ".text.unfinished" / "of a killed process"
    with pytest.raises(RuntimeError), making(folder) as unfinished:
        (unfinished / "train.de").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    left.mkdir(parents=True)
    with making(folder) as unfinished:
        (unfinished / "train.de").write_text("whole")
        assert not folder.exists()
        with pytest.raises(UserError, match="is being made by another process"), making(folder):
            raise AssertionError
    assert [path.name for path in tmp_path.rglob("*")] == ["text", "train.de"]


@pytest.mark.parametrize("kind", [writing, making])
def test_a_full_disk_is_told_with_the_file_and_what_to_do(tmp_path, kind):
    path = tmp_path / "results.json"
    told = pytest.raises(UserError, match=r"results\.json could not be written .*: free space")
    with told, kind(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PermissionError), kind(path):
        raise PermissionError("not here")
