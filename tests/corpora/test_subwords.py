import re

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import subwords

LANGUAGES, SUBSETS = ("de", "en"), ("train", "valid", "test")


@pytest.fixture
def made(tmp_path):
    """Subwords of a corpus folder of ``lines``, the same in all files; returns the warnings."""

    def make(lines, kind, size):
        (tmp_path / "text").mkdir()
        for subset in SUBSETS:
            for language in LANGUAGES:
                (tmp_path / "text" / f"{subset}.{language}").write_text(lines, encoding="utf-8")
        return subwords.make(tmp_path, LANGUAGES, SUBSETS, kind, size)

    return make


@pytest.mark.parametrize(("kind", "size"), [("sentencepiece", 24), ("subword-nmt", 4)])
def test_subwords_are_joint_and_can_be_undone(tmp_path, made, kind, size):
    lines = "low lower lowest äöü\n\nnew newer newest &apos;s\n"
    assert made(lines, kind, size) == []
    encoded = (tmp_path / "bpe" / "test.de").read_text(encoding="utf-8")
    assert encoded == (tmp_path / "bpe" / "train.en").read_text(encoding="utf-8")
    if kind == "sentencepiece":
        undone = [line.replace(" ", "").replace("▁", " ")[1:] for line in encoded.split("\n")]
        assert "\n".join(undone) == lines
    else:
        assert "@@ " in encoded and encoded.replace("@@ ", "") == lines
        codes = (tmp_path / "bpe" / "codes").read_text(encoding="utf-8").split("\n")
        assert codes[0].startswith("#version") and len(codes) == 1 + size + 1


def test_fewer_merges_than_asked_for_are_told(made):
    (warning,) = made("low lower\n", "subword-nmt", 500)
    assert re.match(r"the text gives \d merges, not 500", warning)


@pytest.mark.parametrize(
    ("kind", "size", "lines", "message"),
    [
        ("sentencepiece", 500, "low lower lowest\n", r"--pieces is 500, .* value <= \d+"),
        ("sentencepiece", 20, "low\nhello x<s> y<s>\n" * 50, "text/train.de, line 2: <s> is a"),
        ("subword-nmt", 5, "low\na </s>\n" * 50, "text/train.de, line 2: </s> is a symbol of"),
    ],
)
def test_text_that_cannot_be_cut_so_is_one_clear_line(made, kind, size, lines, message):
    with pytest.raises(UserError, match=message) as told:
        made(lines, kind, size)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["some.model", "codes", "absent"])
def test_a_file_that_is_no_subword_model_is_one_clear_line(tmp_path, name):
    if name != "absent":
        (tmp_path / name).write_text("not a model of any kind\n")
    with pytest.raises(UserError, match=f"subword model .*{name} cannot be read"):
        subwords.Subwords(tmp_path / name)
