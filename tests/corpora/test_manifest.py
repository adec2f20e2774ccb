import json

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import manifest

MADE = {
    **{"corpus": "Talks", "source": "de", "target": "en", "tokenizer": "moses"},
    **{"lowercased": True, "subwords": "subword-nmt", "tests": {"talks": "test", "news": "test1"}},
    "pairs": {"train": 3, "valid": 1, "test": 1, "test1": 1},
}


def made(folder, found=MADE):
    """A corpus of one sentence a set."""
    (folder / "text").mkdir()
    for subset in found["pairs"]:
        (folder / "text" / f"{subset}.de").write_text("es ist &apos;s .\n")
        (folder / "text" / f"{subset}.en").write_text("it is &apos;s .\n")
    (folder / "manifest.json").write_text(json.dumps(found))
    return manifest.read(folder)


def test_a_corpus_knows_its_test_sets_by_name(tmp_path):
    corpus = made(tmp_path)
    assert corpus.scored == ["talks", "news"] and corpus.subsets_of("talks") == ["test"]
    assert corpus.subsets_of("valid") == ["valid"]
    for name in ("test1", "all"):
        with pytest.raises(UserError, match=f"has no test set '{name}'; it has talks, news and"):
            corpus.subsets_of(name)
    found = {key: value for key, value in MADE.items() if key != "tests"}
    (tmp_path / "manifest.json").write_text(json.dumps(found))
    assert manifest.read(tmp_path).tests == {"test": "test"}


def test_all_test_sets_are_one_more_where_the_corpus_says_so(tmp_path):
    corpus = made(tmp_path, {**MADE, "all": True})
    (tmp_path / "text" / "test1.en").write_text("news\n", encoding="utf-8")
    assert corpus.scored == ["all", "talks", "news"] and list(corpus.tests) == ["talks", "news"]
    assert corpus.subsets_of("all") == ["test", "test1"] and corpus.subsets_of("news") == ["test1"]
    assert corpus.plain("all", "en") == ["it is's.", "news"]
    assert corpus.plain("all", "de") == ["es ist 's."] * 2


def test_references_are_detokenized_text_or_the_plain_text_that_is_there(tmp_path):
    corpus = made(tmp_path)
    assert corpus.plain("news", "de") == ["es ist 's."]
    assert corpus.plain("news", "en") == ["it is's."]
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "test1.en").write_text("It is 's.\u2028\n", encoding="utf-8")
    assert corpus.plain("news", "en") == ["It is 's.\u2028"]
    assert corpus.plain("talks", "en") == ["it is's."]


def test_other_text_is_tokenized_and_lowercased_as_the_corpus_is(tmp_path):
    corpus = made(tmp_path)
    # With the last-word rule, and a final sigma as Perl lowercases it.
    assert corpus.as_in_corpus(["In the U.S.", "ΟΔΟΣ"], "en") == ["in the u.s .", "οδοσ"]


def test_a_manifest_that_lacks_something_is_one_clear_line(tmp_path):
    (tmp_path / "manifest.json").write_text('{"source": "de"}')
    with pytest.raises(UserError, match=r"json is damaged .*'target'.*: prepare the corpus"):
        manifest.read(tmp_path)
