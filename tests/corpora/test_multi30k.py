import gzip

import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import manifest, multi30k
from el_fairseq.corpora.sources import checksum

CAPTIONS = {
    "de": ["„Zwei“  Männer – im Freien. ", "Ein Hund\u2028rennt…", "Drei Hunde im Gras"],
    "en": ["Two men’s dogs, ‘outside’.", 'A dog "runs."', "Three dogs\u00a0in the grass"],
}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of small files under the names of the published ones, and their checksums."""
    folder = tmp_path / "published"
    folder.mkdir()
    for number, name in enumerate(multi30k.FILES.values()):
        for language, captions in CAPTIONS.items():
            lines = [f"{number} {caption}" for caption in captions[: 1 + number % 3]]
            content = "\r\n".join([*lines, ""]).encode()
            path = folder / f"{name}.{language}.gz"
            path.write_bytes(gzip.compress(content))
            digest = checksum(path, "sha256").partition(":")[2]
            monkeypatch.setitem(multi30k.SHA256, path.name, digest)
    return folder


def test_the_captions_become_a_corpus_of_four_test_sets_scored_as_one(published, tmp_path, call):
    out = tmp_path / "corpus"
    call(multi30k.main, "de-en", "--from", published, "--out", out)
    corpus = manifest.read(out)
    assert list(corpus.tests) == ["flickr2016", "flickr2017", "coco2017", "flickr2018"]
    assert corpus.pairs == {"train": 1, "valid": 2, "test": 3, "test1": 1, "test2": 2, "test3": 3}
    assert corpus.lowercased and corpus.remove_bpe == "@@ " and corpus.scored[0] == "all"
    tokens = [corpus.text("test3", side).read_text("utf-8").split("\n") for side in ("de", "en")]
    assert tokens[0][0] == "5 &quot; zwei &quot; männer - im freien ."
    assert tokens[0][1:] == ["5 ein hund rennt ...", "5 drei hunde im gras", ""]
    assert tokens[1][0] == "5 two men &apos;s dogs , &apos; outside . &quot;"
    assert tokens[1][1] == "5 a dog &quot; runs . &quot;"
    plain = ["5 two men’s dogs, ‘outside’.", '5 a dog "runs."', "5 three dogs in the grass"]
    assert corpus.plain("flickr2018", "en") == plain
    assert len(corpus.plain("all", "en")) == len(corpus.plain("all", "de")) == 9
    assert corpus.plain("all", "en")[-3:] == plain
    assert corpus.as_in_corpus(["5 " + CAPTIONS["en"][0]], "en") == tokens[1][:1]
    dictionaries = [(corpus.bin / f"dict.{side}.txt").read_bytes() for side in ("de", "en")]
    assert dictionaries[0] == dictionaries[1]
    with pytest.raises(UserError, match="made with direction de-en, now it is en-de"):
        call(multi30k.main, "en-de", "--from", published, "--out", out)


def test_a_file_that_is_not_the_published_one_is_refused_and_nothing_is_made(
    published, tmp_path, call
):
    (published / "train.de.gz").write_bytes(b"other")
    with pytest.raises(UserError, match=r"train\.de\.gz is sha256:\w+, expected sha256:\w+: give"):
        call(multi30k.main, "de-en", "--from", published, "--out", tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_files_are_downloaded_from_the_pinned_commit(published, tmp_path, call, monkeypatch):
    asked = []

    def fetch(url, path, wanted, advice):
        asked.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((published / path.name).read_bytes())

    monkeypatch.setattr(multi30k, "fetch", fetch)
    call(multi30k.main, "en-de", "--out", tmp_path / "corpus")
    raw = f"https://raw.githubusercontent.com/multi30k/dataset/{multi30k.COMMIT}/data/task1/raw"
    assert f"{raw}/train.de.gz" in asked and len(asked) == 12
