import json

import pytest
import sacremoses

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import iwslt14, manifest

MADE = {
    **{"corpus": "Talks", "source": "de", "target": "en", "tokenizer": "moses"},
    **{"lowercased": True, "subwords": "subword-nmt", "tests": {"talks": "test", "news": "test1"}},
    "pairs": {"train": 3, "valid": 1, "test": 1, "test1": 1},
}


def corpus_folder(folder, found=MADE):
    (folder / "text").mkdir()
    for subset in found["pairs"]:
        (folder / "text" / f"{subset}.de").write_text("es ist &apos;s .\n", encoding="utf-8")
        (folder / "text" / f"{subset}.en").write_text("it is &apos;s .\n", encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def test_a_corpus_knows_its_test_sets_by_name(tmp_path):
    corpus = manifest.read(corpus_folder(tmp_path))
    assert corpus.subsets_of("talks") == ["test"]
    assert corpus.subsets_of("valid") == ["valid"]
    with pytest.raises(UserError, match="has no test set 'test1'; it has talks, news and valid"):
        corpus.subsets_of("test1")


def test_all_test_sets_are_one_more_where_the_corpus_says_so(tmp_path):
    corpus = manifest.read(corpus_folder(tmp_path, {**MADE, "all": True}))
    (tmp_path / "text" / "test1.en").write_text("news\n", encoding="utf-8")
    assert corpus.scored == ["all", "talks", "news"] and list(corpus.tests) == ["talks", "news"]
    assert corpus.subsets_of("all") == ["test", "test1"] and corpus.subsets_of("news") == ["test1"]
    assert corpus.references("all") == ["it is's.", "news"]
    assert corpus.source_lines("all") == ["es ist 's."] * 2
    with pytest.raises(UserError, match="has no test set 'new'; it has talks, news, all and valid"):
        corpus.subsets_of("new")


def test_a_corpus_that_does_not_say_so_has_no_set_of_all(tmp_path):
    corpus = manifest.read(corpus_folder(tmp_path))
    assert corpus.scored == ["talks", "news"]
    with pytest.raises(UserError, match="has no test set 'all'"):
        corpus.references("all")


def test_a_manifest_that_names_no_test_sets_has_one(tmp_path):
    found = {key: value for key, value in MADE.items() if key != "tests"}
    assert manifest.read(corpus_folder(tmp_path, found)).tests == {"test": "test"}


def test_references_are_detokenized_text_or_the_plain_text_that_is_there(tmp_path):
    corpus = manifest.read(corpus_folder(tmp_path))
    assert corpus.source_lines("news") == ["es ist 's."]
    assert corpus.references("news") == ["it is's."]
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "test1.en").write_text("It is 's.\u2028\n", encoding="utf-8")
    assert corpus.references("news") == ["It is 's.\u2028"]
    assert corpus.references("talks") == ["it is's."]


def test_other_text_is_tokenized_and_lowercased_as_the_corpus_is(tmp_path):
    corpus = manifest.read(corpus_folder(tmp_path))
    # With the last-word rule, and a final sigma as Perl lowercases it.
    assert corpus.as_in_corpus(["In the U.S.", "ΟΔΟΣ"], "en") == ["in the u.s .", "οδοσ"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"source": "de"}', '{"source": 3, "target": "en"}', b"\xff"]
)
def test_a_damaged_manifest_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        UserError, match=r"manifest\.json is damaged .*: prepare the corpus"
    ) as told:
        manifest.read(tmp_path)
    assert "\n" not in str(told.value)


def test_a_folder_without_a_corpus_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*manifest\.json: prepare the corpus"):
        manifest.read(tmp_path)


def test_the_manifest_warns_of_every_count_that_is_not_the_published_one(tmp_path):
    (tmp_path / "bin").mkdir()
    for language, types in (("de", 8848), ("en", 6640)):
        dictionary = tmp_path / "bin" / f"dict.{language}.txt"
        dictionary.write_text("".join(f"w{number} 1\n" for number in range(types - 4)))
    (tmp_path / "bin" / "preprocess.log").write_text("the time of day")
    found = {**MADE, "pairs": {"train": 3, "valid": 3, "test": 6750}}
    finished = manifest.finished({**found, "expected": iwslt14.EXPECTED}, tmp_path)
    assert [warning.partition(": this is not")[0] for warning in finished["warnings"]] == [
        "train: 3, expected 160,239",
        "valid: 3, expected 7,283",
        "types en: 6,640, expected 6,632",
    ]
    assert sorted(finished["sha256"]) == ["bin/dict.de.txt", "bin/dict.en.txt"]
    assert finished["versions"]["sacremoses"] == sacremoses.__version__
    assert manifest.finished(found, tmp_path)["warnings"] == []
