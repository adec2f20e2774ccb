import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import subwords

LINES = ["low lower lowest äöü", "", "new newer newest &apos;s"]


def encoded(folder, lines, kind, size):
    """Lines in subwords of a model that is learnt from them."""
    path = folder / subwords.MODELS[kind]
    path.write_bytes(subwords.learn(iter(lines), kind, size))
    subwords.encode(subwords.Subwords(path), lines, folder / "encoded", "text")
    return (folder / "encoded").read_text(encoding="utf-8").split("\n")[:-1]


def test_subwords_of_both_kinds_can_be_undone(tmp_path):
    pieces = encoded(tmp_path, LINES, "sentencepiece", 24)
    assert [line.replace(" ", "").replace("▁", " ")[1:] for line in pieces] == LINES
    pieces = encoded(tmp_path, LINES, "subword-nmt", 4)
    assert "@@ " in pieces[0] and [line.replace("@@ ", "") for line in pieces] == LINES


@pytest.mark.parametrize(
    ("kind", "size", "lines", "message"),
    [
        ("sentencepiece", 500, ["low lower lowest"], r"--pieces is 500, .* value <= \d+"),
        ("sentencepiece", 20, ["low", "hello x<s> y<s>"] * 50, "text, line 2: <s> is a symbol"),
        ("subword-nmt", 5, ["low", "a </s>"] * 50, "text, line 2: </s> is a symbol of fairseq's"),
    ],
)
def test_text_that_cannot_be_cut_so_is_one_clear_line(tmp_path, kind, size, lines, message):
    with pytest.raises(UserError, match=message) as told:
        encoded(tmp_path, lines, kind, size)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["some.model", "codes", "absent"])
def test_a_file_that_is_no_subword_model_is_one_clear_line(tmp_path, name):
    if name != "absent":
        (tmp_path / name).write_text("not a model of any kind\n")
    with pytest.raises(UserError, match=f"subword model .*{name} cannot be read"):
        subwords.Subwords(tmp_path / name)
