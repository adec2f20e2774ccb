import gzip
import json

import pytest
from conftest import ROOT

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import manifest, parallel_text

PAIR = ("de", "en")
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


def write(prefix, pairs, end=".{}", languages=PAIR):
    for side, language in enumerate(languages):
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


@pytest.fixture
def command(text, tmp_path, call):
    """The command with the three sets of ``text``, into ``tmp_path/out``; returns the manifest."""

    def make(*options, languages=PAIR, out="out"):
        words = ["--source", languages[0], "--target", languages[1], "--out", tmp_path / out]
        words += ["--train", text / "train", "--valid", text / "valid", "--test", text / "test"]
        call(parallel_text.main, *words, *options)
        return json.loads((tmp_path / out / "manifest.json").read_text("utf-8"))

    return make


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_training_pairs_are_filtered_and_counted_and_test_sets_are_not(tmp_path, command, capsys):
    made = command("--merges", 4)
    filtered = {
        "a side is empty": 1,
        "a side has over 175 tokens": 1,
        "one side has over 3 times the tokens of the other": 1,
    }
    assert made["dropped"] == filtered
    assert made["pairs"] == {"train": 5, "valid": 2, "test": 4}
    assert lines(tmp_path / "out" / "text" / "train.de")[0] == "Das Licht ist an."
    assert lines(tmp_path / "out" / "text" / "train.en")[0] == "The light is on."
    assert len(lines(tmp_path / "out" / "text" / "test.de")) == 4
    assert made["tokenizer"] is None and made["lowercased"] is False
    assert "2 training pairs share a sentence with a test set" in capsys.readouterr().err
    made = command("--merges", 4, "--drop-test-duplicates", out="dropped")
    assert made["training pairs with a sentence of a test set"] == 2
    assert made["dropped"] == {**filtered, "a side stands in a test set": 2}
    assert made["pairs"]["train"] == 3


def test_tokenized_text_keeps_plain_references_and_symbols_in_it_are_escaped(
    text, tmp_path, command
):
    write(text / "test", [*TEST, ("<s> <pad>", "</s> <UNK>")])
    command("--tokenizer", "moses", "--lowercase", "--merges", 4)
    tokens, plain = (lines(tmp_path / "out" / x / "test.en") for x in ("text", "references"))
    assert (tokens[0], plain[0]) == ("good day .", "good day.")
    assert (tokens[-1], plain[-1]) == ("&lt; / s &gt; &lt; unk &gt;", "</s> <unk>")


def cut(folder):
    (folder / "train.de").unlink()
    (folder / "train.de.gz").write_bytes(gzip.compress(b"Eins.\n")[:-9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "train.de").write_text("a\n"),
            "de has 1 sentences and train.en ",
        ),
        (
            lambda folder: (folder / "valid.en").write_bytes(b"a\nb \xff\n"),
            "en, line 2: byte 0xff ",
        ),
        (lambda folder: (folder / "test.de").unlink(), "there is no .*de .nor test.de.gz"),
        (lambda folder: write(folder / "train", [("", "")]), "no pairs are left for train of text"),
        (lambda folder: write(folder / "test", []), "no pairs are left for test of text files"),
        (cut, r"train\.de\.gz is damaged"),
    ],
)
def test_text_that_cannot_be_right_is_one_clear_line_and_nothing_is_made(
    text, tmp_path, command, change, message
):
    change(text)
    with pytest.raises(UserError, match=message) as told:
        command()
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_two_codes_are_refused_that_are_the_same_or_that_fairseq_would_part(command, capsys):
    with pytest.raises(UserError, match="--source and --target are both de"):
        command(languages=("de", "de"))
    with pytest.raises(SystemExit):
        command(languages=("de", "pt-br"))
    assert "'pt-br', expected a code of letters, digits and _" in capsys.readouterr().err


def test_sentences_of_languages_without_spaces_are_measured_in_characters(text, command):
    english, chinese = "I like the machine translation.", "我喜欢机器翻译。"
    rows = [(english, chinese)] * 2 + [(english, chinese * 7), (english * 50, chinese * 50)]
    for name in ("train", "valid", "test"):
        write(text / name, rows, languages=("en", "zh_CN"))
    assert command("--merges", 4, languages=("en", "zh_CN"))["dropped"] == {
        "one side has over 3 times the characters of the other": 1,
        "a side has over 1000 characters": 1,
    }


def test_references_that_look_tokenized_are_told(text, command, capsys):
    for name, line in (("tokens", "It 's here , now ."), ("plain", "Now, here.")):
        write(text / "test", [("Hier.", line)])
        command("--merges", 4, "--max-ratio", 9, out=name)
        assert ("test.en looks tokenized" in capsys.readouterr().err) == (name == "tokens")


def test_two_test_sets_go_from_files_to_binary_data(tmp_path, call):
    rows = (ROOT / "tests" / "data" / "home-assistant.tsv").read_text("utf-8").split("\n")
    pairs = [(row.split("\t")[0], row.split("\t")[2]) for row in rows[:260]]
    for name, part in (("train", pairs[:200]), ("valid", pairs[200:220]), ("news", pairs[220:])):
        write(tmp_path / name, part, ".{}.gz")
    write(tmp_path / "talks", pairs[220:231])
    out = tmp_path / "corpus"
    options = f"""--source de --target en --out {out} --merges 100 --tokenizer moses
        --dictionaries separate --train {tmp_path}/train --valid {tmp_path}/valid
        --test news={tmp_path}/news --test talks={tmp_path}/talks""".split()
    call(parallel_text.main, *options)
    corpus = manifest.read(out)
    assert corpus.tests == {"news": "test", "talks": "test1"}
    plain = [" ".join(english.split()) for _, english in pairs[220:231]]
    assert corpus.plain("talks", "en") == plain
    binary = {path.name.split(".")[0] for path in corpus.bin.glob("*.en.bin")}
    assert binary == {"train", "valid", "test", "test1"}
    assert corpus.remove_bpe == "@@ " and corpus.subword_model == out / "bpe" / "codes"
    call(parallel_text.main, *options)
    write(tmp_path / "talks", pairs[221:232])
    with pytest.raises(UserError, match=r"was made with test1\.de sha256:\w+, now it is"):
        call(parallel_text.main, *options)
