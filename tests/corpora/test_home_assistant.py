import json
import zipfile
from collections import Counter

import pytest
from conftest import ROOT

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import home_assistant, manifest
from el_fairseq.corpora.home_assistant import placed, split_of


@pytest.fixture
def small_wheel(tmp_path):
    files = {
        "b/translations/en.json": {"state": {"on": "Turned  on\nnow", "off": "Off"}, "same": "A b"},
        "b/translations/de.json": {"state": {"on": "Jetzt\tan", "off": "Aus"}, "same": "A b"},
        "a/translations/en.json": {"title": "Turned on now", "n": 3},
        "a/translations/de.json": {"title": " Nun\n an", "extra": "Ohne Gegenstück", "n": 3},
        "c/translations/de.json": {"title": "Kein Englisch"},
    }
    path = tmp_path / "small.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr("homeassistant/components/" + name, json.dumps(content))
    return path


def test_pairs_are_dropped_for_a_reason_and_each_english_sentence_is_kept_once(small_wheel):
    kept = split_of("Turned on now"), ("Nun an", "Turned on now")
    assert next(placed(small_wheel, "de")) == kept
    assert Counter(place for place, _ in placed(small_wheel, "de")) == {
        kept[0]: 1,
        "no English string with that file and key": 2,
        "English sentence seen before": 1,
        "single words": 1,
        "both sides are equal": 1,
    }


def test_the_split_depends_on_the_english_text_alone_and_never_changes():
    sentences = ["Turn on the light", "No 7", "No 19", "No 32"]
    assert [split_of(sentence) for sentence in sentences] == ["train", "test", "test", "valid"]


def test_a_wheel_with_another_hash_is_refused_by_name(small_wheel, tmp_path, call):
    words = ["de-en", "--archive", small_wheel, "--out", tmp_path / "out"]
    with pytest.raises(UserError, match=r"small\.whl is sha256:.*, expected sha256:8167820c"):
        call(home_assistant.main, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["small.whl"]


def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(
    tmp_path, call, monkeypatch, capfd
):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UserError, match=r"could not download .* check the network"):
        call(home_assistant.main, "de-en", "--out", tmp_path / "out")
    assert "No matching distribution" in capfd.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_real_wheel_gives_the_corpora_that_the_readme_reports(tmp_path, call):
    wheel = ROOT / "data" / "archives" / home_assistant.WHEEL
    if not wheel.exists():
        home_assistant.download(wheel.parent)
    german = Counter(place for place, _ in placed(wheel, "de"))
    assert german.items() >= {"train": 12849, "valid": 756, "test": 2397}.items()
    call(home_assistant.main, "fr-en", "--archive", wheel, "--out", tmp_path / "fr-en")
    french = manifest.read(tmp_path / "fr-en")
    assert french.pairs == {"train": 5282, "valid": 293, "test": 973}
