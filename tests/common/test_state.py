import pytest

from el_fairseq.common.cli import UserError, split_at_dashes
from el_fairseq.common.locks import locked
from el_fairseq.common.state import read_json, write_json
from el_fairseq.common.text import lines_of


def test_state_comes_back_as_it_was_written(tmp_path):
    value = {"run": "ce-seed1", "options": ["--lr", "0.005"], "ü": None}
    write_json(tmp_path / "run.json", value)
    assert read_json(tmp_path / "run.json", "train again") == value


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no"),
        (b"", "is damaged"),
        (b'{"run": "ce-se', "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[1, 2]", "it holds a list, expected a dict"),
    ],
)
def test_damaged_state_is_named_with_what_to_do(tmp_path, content, problem):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(path, "train that run again")
    assert str(path) in str(error.value)
    assert problem in str(error.value)
    assert str(error.value).endswith("train that run again")


def test_lines_end_at_newlines_alone(tmp_path):
    path = tmp_path / "text"
    path.write_text("one\u2028still one\n\ntwo\rtwo\nlast", encoding="utf-8", newline="\n")
    assert lines_of(path) == ["one\u2028still one", "", "two\rtwo", "last"]
    path.write_text("", encoding="utf-8")
    assert lines_of(path) == []


def test_text_that_is_not_utf8_is_refused_by_its_line(tmp_path):
    (tmp_path / "text").write_bytes("gut\nsch\xf6n\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 in line 2"):
        lines_of(tmp_path / "text")


def test_a_lock_is_held_until_its_file_is_closed(tmp_path):
    with locked(tmp_path / "lock", "busy"), pytest.raises(UserError, match="busy"):
        locked(tmp_path / "lock", "busy")
    locked(tmp_path / "lock", "busy").close()


def test_arguments_part_at_the_first_double_dash():
    assert split_at_dashes(["a", "--", "b", "--", "c"]) == (["a"], ["b", "--", "c"])
    assert split_at_dashes(["a"]) == (["a"], [])
