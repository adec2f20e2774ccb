import gzip
import json

import pytest
from conftest import ROOT

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import manifest, parallel_text
from el_fairseq.corpora.parallel_text import paths_of

PAIR = ("de", "en")
SETTINGS = {
    **{"tokenizer": "none", "lowercase": False, "drop_test_duplicates": False},
    **{"max_tokens": 175, "max_ratio": 3.0},
}
TRAIN = [
    ("Das Licht  ist an.", "The light\u2028is on."),
    ("", "Nothing on the other side."),
    ("Wort " * 176, "Word"),
    ("eins zwei drei vier", "one"),
    ("eins zwei drei", "one"),
    ("Die Tür ist zu.", "The door is shut."),
    ("Die Tür ist zu!", "The door is closed."),
    ("Guten Tag.", "Good day."),
]
TEST = [
    ("Guten Tag.", "Good day."),
    ("", ""),
    ("Wort " * 200, "Word"),
    ("Tür.", "The door is shut."),
]


def write(prefix, pairs, end=".{}"):
    for side, language in enumerate(PAIR):
        content = "".join(pair[side] + "\n" for pair in pairs).encode()
        path = prefix.with_name(prefix.name + end.format(language))
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def text(tmp_path):
    """Prefixes of a training, a validation and a test set in ``tmp_path/in``."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, pairs in (("train", TRAIN), ("valid", TEST[2:]), ("test", TEST)):
        write(folder / name, pairs)
    return folder


def made(folder, out, **settings):
    parts = {name: paths_of(folder / name, PAIR) for name in ("train", "valid", "test")}
    out.mkdir()
    return parallel_text.write_text(parts, PAIR, {**SETTINGS, **settings}, out)


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_training_pairs_are_filtered_and_counted_and_test_sets_are_not(text, tmp_path):
    found = made(text, tmp_path / "out")
    assert found["dropped"] == {
        "a side is empty": 1,
        "a side has over 175 tokens": 1,
        "one side has over 3 times the tokens of the other": 1,
    }
    assert found["pairs"] == {"train": 5, "valid": 2, "test": 4}
    assert lines(tmp_path / "out" / "text" / "train.de")[0] == "Das Licht ist an."
    assert lines(tmp_path / "out" / "text" / "train.en")[0] == "The light is on."
    assert len(lines(tmp_path / "out" / "text" / "test.de")) == 4
    assert found["tokenizer"] is None and found["lowercased"] is False


def test_test_sentences_in_the_training_text_are_counted_and_dropped_on_demand(text, tmp_path):
    key = "training pairs with a sentence of a test set"
    found = made(text, tmp_path / "kept")
    assert found[key] == 2 and found["pairs"]["train"] == 5
    found = made(text, tmp_path / "dropped", drop_test_duplicates=True)
    assert found[key] == 2 and found["pairs"]["train"] == 3
    assert found["dropped"]["a side stands in a test set"] == 2


def test_tokenized_text_keeps_plain_references(text, tmp_path):
    found = made(text, tmp_path / "out", tokenizer="moses", lowercase=True)
    assert lines(tmp_path / "out" / "text" / "test.en")[0] == "good day ."
    assert lines(tmp_path / "out" / "references" / "test.en")[0] == "good day."
    assert found["tokenized by"].startswith("sacremoses")


def longer(folder):
    write(folder / "train", [*TRAIN, ("Noch eins", "One more")])
    write(folder / "other", TRAIN)
    (folder / "other.de").rename(folder / "train.de")


def broken(folder):
    for path in list(folder.glob("train.*")):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
        path.unlink()


@pytest.fixture
def command(text, call):
    """The command with the three sets of ``text``."""

    def make(*options, target="en"):
        words = ["--source", "de", "--target", target, "--train", text / "train"]
        words += ["--valid", text / "valid", "--test", text / "test", *options]
        call(parallel_text.main, *words)

    return make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (longer, r"train\.de has 8 sentences and train\.en has more: they are not"),
        (
            lambda folder: (folder / "valid.en").write_bytes(b"a\nb \xff c\n"),
            r"valid\.en, line 2: byte 0xff is not UTF-8",
        ),
        (
            lambda folder: (folder / "test.de").unlink(),
            r"there is no .*test\.de \(nor test\.de\.gz",
        ),
        (
            lambda folder: write(folder / "train", [("", "")] * 3),
            "no pairs are left for train of text files",
        ),
        (broken, r"train\.de\.gz is damaged"),
        (lambda folder: write(folder / "test", []), "no pairs are left for test of text files"),
    ],
)
def test_text_that_cannot_be_right_is_one_clear_line_and_nothing_is_made(
    text, tmp_path, command, change, message
):
    change(text)
    with pytest.raises(UserError, match=message) as told:
        command("--out", tmp_path / "out")
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_two_codes_are_refused_that_are_the_same_or_that_fairseq_would_part(command, capsys):
    with pytest.raises(UserError, match="--source and --target are both de"):
        command(target="de")
    with pytest.raises(SystemExit):
        command(target="pt-br")
    assert "'pt-br', expected a code of letters, digits and _" in capsys.readouterr().err


def test_symbols_in_text_that_is_tokenized_are_escaped_and_do_no_harm(text, tmp_path):
    write(text / "test", [("<s> <pad>", "</s> <unk>")])
    made(text, tmp_path / "out", tokenizer="moses", merges=4)
    assert lines(tmp_path / "out" / "text" / "test.en") == ["&lt; / s &gt; &lt; unk &gt;"]


def test_sentences_of_languages_without_spaces_are_measured_in_characters(tmp_path):
    english, chinese = "I like the machine translation.", "我喜欢机器翻译。"
    rows = [(english, chinese), (english, chinese * 7), (english * 50, chinese * 50)]
    (tmp_path / "in").mkdir()
    for language, side in zip(("en", "zh_CN"), zip(*rows)):
        path = tmp_path / "in" / f"train.{language}"
        path.write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
    parts = {"train": paths_of(tmp_path / "in" / "train", ("en", "zh_CN"))}
    settings = {**SETTINGS, "max_tokens": 1000}
    found = parallel_text.write_text(parts, ("en", "zh_CN"), settings, tmp_path)
    assert found["dropped"] == {
        "one side has over 3 times the characters of the other": 1,
        "a side has over 1000 characters": 1,
    }


def test_references_that_look_tokenized_are_told(text, tmp_path, command, capsys):
    for name, line in (("tokens", "It 's here , now ."), ("plain", "Now, here.")):
        write(text / "test", [("Hier.", line)])
        command("--out", tmp_path / name, "--merges", 4, "--max-ratio", 9)
        assert ("test.en looks tokenized" in capsys.readouterr().err) == (name == "tokens")


def test_two_test_sets_go_from_files_to_binary_data(tmp_path, call):
    rows = (ROOT / "tests" / "data" / "home-assistant.tsv").read_text("utf-8").split("\n")
    pairs = [(row.split("\t")[0], row.split("\t")[2]) for row in rows[:260]]
    for name, part in (("train", pairs[:200]), ("valid", pairs[200:220]), ("news", pairs[220:])):
        write(tmp_path / name, part, ".{}.gz")
    write(tmp_path / "talks", pairs[220:231])
    out = tmp_path / "corpus"
    options = ["--source", "de", "--target", "en", "--out", out, "--merges", 100]
    options += ["--tokenizer", "moses", "--dictionaries", "separate"]
    options += ["--train", tmp_path / "train", "--valid", tmp_path / "valid"]
    options += ["--test", f"news={tmp_path}/news", "--test", f"talks={tmp_path}/talks"]
    call(parallel_text.main, *options)
    corpus = manifest.read(out)
    assert corpus.tests == {"news": "test", "talks": "test1"}
    assert corpus.references("talks") == [
        " ".join(english.split()) for _, english in pairs[220:231]
    ]
    assert {path.name for path in corpus.bin.glob("*.en.bin")} == {
        f"{subset}.de-en.en.bin" for subset in ("train", "valid", "test", "test1")
    }
    assert corpus.remove_bpe == "@@ " and corpus.subword_model == out / "bpe" / "codes"
    found = json.loads((out / "manifest.json").read_text())
    assert found["options"]["merges"] == 100 and "pieces" not in found["options"]
    call(parallel_text.main, *options)
    write(tmp_path / "talks", pairs[221:232])
    with pytest.raises(UserError, match=r"was made with test1\.de sha256:\w+, now it is"):
        call(parallel_text.main, *options)
