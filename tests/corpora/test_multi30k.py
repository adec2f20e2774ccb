import gzip
import json
from pathlib import Path

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
    assert corpus.text("test3", "de").read_text("utf-8").split("\n") == [
        "5 &quot; zwei &quot; männer - im freien .",
        "5 ein hund rennt ...",
        "5 drei hunde im gras",
        "",
    ]
    assert corpus.text("test3", "en").read_text("utf-8").split("\n")[:2] == [
        "5 two men &apos;s dogs , &apos; outside . &quot;",
        "5 a dog &quot; runs . &quot;",
    ]
    assert corpus.references("flickr2018") == [
        "5 two men’s dogs, ‘outside’.",
        '5 a dog "runs."',
        "5 three dogs in the grass",
    ]
    assert len(corpus.references("all")) == len(corpus.source_lines("all")) == 9
    assert corpus.references("all")[-3:] == corpus.references("flickr2018")
    expected = corpus.text("test3", "en").read_text("utf-8").split("\n")[0]
    assert corpus.as_in_corpus(["5 " + CAPTIONS["en"][0]], "en") == [expected]
    dictionaries = [(corpus.bin / f"dict.{side}.txt").read_bytes() for side in ("de", "en")]
    assert dictionaries[0] == dictionaries[1]
    made = json.loads((out / "manifest.json").read_text("utf-8"))
    assert made["archive"]["commit"] == multi30k.COMMIT
    with pytest.raises(UserError, match="made with direction de-en, now it is en-de"):
        call(multi30k.main, "en-de", "--from", published, "--out", out)


def pack(path, content):
    path.write_bytes(gzip.compress(content))
    multi30k.SHA256[path.name] = checksum(path, "sha256").partition(":")[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "train.de.gz").write_bytes(b"other"),
            r"train\.de\.gz is sha256:\w+, expected sha256:\w+: give",
        ),
        (
            lambda folder: pack(folder / "test_2017_mscoco.en.gz", b"one\n"),
            r"mscoco\.en\.gz has 1 sentences and test_2017_mscoco\.de\.gz has more",
        ),
    ],
)
def test_files_that_are_not_the_published_ones_are_one_clear_line_and_nothing_is_made(
    published, tmp_path, call, change, message
):
    change(published)
    with pytest.raises(UserError, match=message) as told:
        call(multi30k.main, "de-en", "--from", published, "--out", tmp_path / "corpus")
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_files_are_downloaded_from_the_pinned_commit_with_their_checksums(
    published, tmp_path, call, monkeypatch
):
    asked = {}

    def fetch(url, path, wanted, advice):
        asked[url] = wanted
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((published / Path(path).name).read_bytes())

    monkeypatch.setattr(multi30k, "fetch", fetch)
    call(multi30k.main, "en-de", "--out", tmp_path / "corpus")
    train = f"https://raw.githubusercontent.com/multi30k/dataset/{multi30k.COMMIT}/data/task1/raw/"
    assert asked[train + "train.de.gz"] == f"sha256:{multi30k.SHA256['train.de.gz']}"
    assert len(asked) == 12
