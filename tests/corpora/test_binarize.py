from types import SimpleNamespace

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora.binarize import binarize


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9\n", r"source is not UTF-8 in line 1"),
        (b"", "source has 0 lines"),
        (b"one\ntwo <pad>\n", r"source, line 2: <pad> is a symbol of fairseq's own"),
    ],
)
def test_text_that_cannot_be_binarized_is_one_clear_line(tmp_path, content, message):
    like = tmp_path / "data-bin"
    like.mkdir()
    for name in ("train.de-en.de.idx", "dict.de.txt", "dict.en.txt"):
        (like / name).touch()
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(UserError, match=message):
        binarize(like, SimpleNamespace(pieces=str), tmp_path / "source", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
