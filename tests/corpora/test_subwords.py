import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import subwords

LANGUAGES = {"source": "de", "target": "en", "pairs": {"train": 3, "valid": 3, "test": 3}}


def write_text(folder, lines):
    """``text/`` of a corpus folder, the same in all files."""
    (folder / "text").mkdir()
    for subset in LANGUAGES["pairs"]:
        for language in ("de", "en"):
            (folder / "text" / f"{subset}.{language}").write_text(lines, encoding="utf-8")


@pytest.mark.parametrize(("kind", "size"), [("sentencepiece", 24), ("subword-nmt", 4)])
def test_subwords_are_joint_and_can_be_undone(tmp_path, kind, size):
    lines = "low lower lowest äöü\n\nnew newer newest &apos;s\n"
    write_text(tmp_path, lines)
    longest = subwords.make(tmp_path, LANGUAGES, kind, size)
    encoded = (tmp_path / "bpe" / "test.de").read_text(encoding="utf-8")
    assert encoded == (tmp_path / "bpe" / "train.en").read_text(encoding="utf-8")
    assert longest["test.de"] == max(len(line.split()) for line in encoded.split("\n"))
    if kind == "sentencepiece":
        undone = [line.replace(" ", "").replace("▁", " ")[1:] for line in encoded.split("\n")]
        assert "\n".join(undone) == lines
    else:
        assert "@@ " in encoded and encoded.replace("@@ ", "") == lines
        codes = (tmp_path / "bpe" / "codes").read_text(encoding="utf-8").split("\n")
        assert codes[0].startswith("#version") and len(codes) == 1 + size + 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sentencepiece", r"--pieces is 500, .* value <= \d+"),
        ("subword-nmt", r"--merges is 500, expected at most \d+: the text gives no more"),
    ],
)
def test_a_vocabulary_larger_than_the_text_gives_is_refused_in_one_line(tmp_path, kind, message):
    write_text(tmp_path, "low lower lowest\n" * 3)
    with pytest.raises(UserError, match=message):
        subwords.make(tmp_path, LANGUAGES, kind, 500)


def test_fewer_merges_will_do_where_nobody_asked_for_a_number(tmp_path):
    write_text(tmp_path, "low lower lowest\n" * 3)
    subwords.make(tmp_path, LANGUAGES, "subword-nmt", 500, at_most=True)
    assert (tmp_path / "bpe" / "test.de").read_text() == "low lower lowest\n" * 3


def test_text_without_two_characters_to_merge_is_one_clear_line(tmp_path):
    write_text(tmp_path, "a b\n" * 3)
    with pytest.raises(UserError, match="--merges is 5, expected at most 0"):
        subwords.make(tmp_path, LANGUAGES, "subword-nmt", 5)


def test_an_interrupt_while_subwords_are_learnt_is_one(tmp_path, monkeypatch):
    def interrupted(files):
        yield "low lower lowest"
        raise KeyboardInterrupt

    monkeypatch.setattr(subwords, "_lines", interrupted)
    with pytest.raises(KeyboardInterrupt):
        subwords.learn_sentencepiece([], tmp_path / "model", 24)


@pytest.mark.parametrize(
    ("kind", "size", "line"),
    [("sentencepiece", 20, "hello x<s> y<s>"), ("subword-nmt", 5, "a </s>")],
)
def test_subwords_that_are_symbols_of_fairseqs_are_refused(tmp_path, kind, size, line):
    write_text(tmp_path, f"low\n{line}\n" * 50)
    with pytest.raises(UserError, match=r"text/train\.de, line 2: </?s> is a symbol of fairseq's"):
        subwords.make(tmp_path, LANGUAGES, kind, size)


@pytest.mark.parametrize("name", ["some.model", "codes"])
def test_a_file_that_is_no_subword_model_is_one_clear_line(tmp_path, name):
    (tmp_path / name).write_text("not a model of any kind\n")
    with pytest.raises(UserError, match=f"subword model .*{name} cannot be read"):
        subwords.Subwords(tmp_path / name)
