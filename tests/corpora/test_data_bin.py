import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import data_bin, manifest
from el_fairseq.corpora.binarize import preprocess

SIDES = {
    "de": ["das licht ist an .", "er ist &apos;s , un@@ ser", "licht , an"],
    "en": ["the light is on .", "it is &apos;s , our@@ s", "light , on"],
    "fr": ["la lumière est , allumée", "c &apos;est n@@ ous .", "lumière ,"],
}


def binary(folder, pair, lines=3, tests=("test", "test1"), english=None):
    """Binary data of a pair in ``folder``, as fairseq-preprocess makes it; returns its folder."""
    sides = {**SIDES, "en": english or SIDES["en"]}
    for language in pair:
        for subset in ("train", "valid", *tests):
            text = "".join(f"{line}\n" for line in sides[language][:lines])
            (folder / f"{subset}.{language}").write_text(text, encoding="utf-8")
    out = folder / "data-bin"
    preprocess(
        *("--source-lang", pair[0], "--target-lang", pair[1], "--destdir", str(out)),
        *("--trainpref", f"{folder}/train", "--validpref", f"{folder}/valid"),
        *("--testpref", ",".join(f"{folder}/{test}" for test in tests)),
        *(["--tgtdict", f"{out}/dict.en.txt"] if (out / "dict.en.txt").exists() else []),
    )
    return out


def again(data, **options):
    for path in data.glob("dict.*"):
        path.unlink()
    binary(data.parent, ("de", "en"), **options)


@pytest.fixture
def command(call):
    """The corpus that the command makes of binary data."""

    def make(data, out, *words):
        call(data_bin.main, "--data-bin", data, "--out", out, "--subwords", "subword-nmt", *words)
        return manifest.read(out)

    return make


def test_references_are_the_datas_own_text_where_none_are_given(tmp_path, command, capsys):
    data = binary(tmp_path, ("de", "en"))
    corpus = command(data, tmp_path / "corpus", "--tokenizer", "moses")
    assert corpus.tests == {"test": "test", "test1": "test1"}
    assert (corpus.source, corpus.target, corpus.remove_bpe) == ("de", "en", "@@ ")
    assert corpus.plain("test1", "en") == ["the light is on.", "it is's, ours", "light, on"]
    assert corpus.plain("test", "de")[0] == "das licht ist an."
    assert (corpus.bin / "dict.de.txt").is_file()
    assert "warning" not in capsys.readouterr().err
    command(data, tmp_path / "not-said", "--pool-tests")
    assert "warning: test.en of" in capsys.readouterr().err
    assert len(manifest.read(tmp_path / "not-said").plain("all", "en")) == 6
    (codes := tmp_path / "codes").write_text("#version: 0.2\nl i\n")
    command(data, tmp_path / "subwords", "--subword-model", codes)
    with pytest.raises(UserError, match="was made with subword-model sha256:"):
        command(data, tmp_path / "subwords")


def test_words_that_the_dictionary_lacks_in_own_references_are_told(tmp_path, command, capsys):
    (tmp_path / "data-bin").mkdir()
    words = ["the", "is", "on", ".", "it", "&apos;s", ",", "our@@", "s"]
    (tmp_path / "data-bin" / "dict.en.txt").write_text("".join(f"{word} 9\n" for word in words))
    data = binary(tmp_path, ("de", "en"), tests=("test",))
    command(data, tmp_path / "corpus", "--tokenizer", "moses")
    assert "2 of 3 lines of test.en of" in capsys.readouterr().err


def test_references_that_are_given_are_kept_and_told_where_they_look_tokenized(
    tmp_path, command, capsys
):
    data = binary(tmp_path, ("de", "en"))
    plain, tokenized = tmp_path / "plain.en", tmp_path / "test.en"
    plain.write_text("The light is on.\nIt is 's, ours.\nLight, on.\n")
    words = ["--tokenizer", "moses", "--test", f"talks={plain}", "--test", f"news={tokenized}"]
    corpus = command(data, tmp_path / "corpus", *words)
    assert corpus.plain("talks", "en")[1] == "It is 's, ours."
    assert corpus.tests == {"talks": "test", "news": "test1"}
    told = capsys.readouterr().err
    assert f"{tokenized} looks tokenized" in told and f"{plain} looks" not in told


def test_several_pairs_in_one_folder_are_asked_for_and_kept_apart(tmp_path, command):
    data = binary(tmp_path, ("de", "en"))
    binary(tmp_path, ("fr", "en"), lines=2)
    with pytest.raises(UserError, match=r"has the pairs de-en, fr-en, .* name one pair"):
        command(data, tmp_path / "corpus")
    corpus = command(data, tmp_path / "corpus", "--source", "fr", "--target", "en")
    assert (corpus.source, corpus.target) == ("fr", "en") and corpus.pairs["test"] == 2
    with pytest.raises(UserError, match=r"was made with languages \['fr', 'en'\], now it is"):
        command(data, tmp_path / "corpus", "--source", "de")
    with pytest.raises(UserError, match="expected the pair en-nl: name one pair"):
        command(data, tmp_path / "none", "--source", "en", "--target", "nl")
    turned = command(data, tmp_path / "turned", "--source", "en", "--target", "de")
    assert turned.plain("test", "de")[0] == "das licht ist an ."


def test_a_corpus_goes_on_after_the_repository_was_moved(tmp_path, command):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    command(binary(old, ("de", "en")), old / "corpus")
    old.rename(new)
    assert (new / "corpus" / "bin" / "dict.de.txt").is_file()
    command(new / "data-bin", new / "corpus")
    again(new / "data-bin", lines=2)
    with pytest.raises(UserError, match="was made with content"):
        command(new / "data-bin", new / "corpus")


def cut(name):
    def damage(data):
        (data / name).write_bytes((data / name).read_bytes()[:-1])

    return damage


def in_other_subwords(data):
    again(data, english=["the li@@ ght is on .", "it is , our@@ s", "li@@ ght"])


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (cut("test.de-en.en.idx"), [], r"en\.idx and \.bin are empty, cut off or damaged"),
        (cut("test.de-en.en.bin"), [], r"damaged \([\d,]+ bytes of sentences, expected [\d,]+\)"),
        (lambda data: (data / "test.de-en.de.bin").unlink(), [], r"de\.idx and \.bin are empty"),
        (in_other_subwords, ["--subwords", "none"], "holds '@@' of subword-nmt, and --subwords is"),
        (in_other_subwords, ["--subwords", "sentencepiece"], "is sentencepiece: say --subwords su"),
        (None, ["--test", __file__], r"holds \d+ references, and its test set 3 sentences"),
    ],
)
def test_binary_data_that_cannot_be_right_is_one_clear_line_and_nothing_is_made(
    tmp_path, command, damage, options, message
):
    data = binary(tmp_path, ("de", "en"), tests=("test",))
    if damage:
        damage(data)
    with pytest.raises(UserError, match=message) as told:
        command(data, tmp_path / "corpus", *options)
    assert "\n" not in str(told.value) and not (tmp_path / "corpus").exists()
