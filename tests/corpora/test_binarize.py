from types import SimpleNamespace

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora.binarize import binarize, shuffled


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([], [], "source has 0 lines"),
        (["a", "b"], ["c"], "source has 2 lines and target has 1 lines"),
        (["a", "b <pad>"], ["c", "d"], r"source, line 2: <pad> is a symbol of fairseq's own"),
        (["a"], ["b"], "exists; it is not changed"),
    ],
)
def test_text_that_cannot_be_binarized_is_one_clear_line(tmp_path, source, target, message):
    like, out = tmp_path / "data-bin", tmp_path / "out"
    like.mkdir()
    for name in ("train.de-en.de.idx", "dict.de.txt", "dict.en.txt"):
        (like / name).touch()
    texts = [("source", source), ("target", target)]
    with pytest.raises(UserError, match=message):
        binarize(like, SimpleNamespace(pieces=str), texts, like if source == ["a"] else out)
    assert not out.exists()


def test_shuffled_lines_keep_their_words():
    lines = ["a b c d e f", "g", "h i"]
    found = shuffled(lines, seed=1)
    assert [sorted(line.split()) for line in found] == [sorted(line.split()) for line in lines]
    assert lines != found == shuffled(lines, seed=1)
