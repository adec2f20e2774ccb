"""The strings of Home Assistant as a parallel corpus: real text that needs nothing but pip.

The wheel holds ``homeassistant/components/COMPONENT/translations/LANGUAGE.json``, the messages
of one program in some 60 languages (Apache-2.0), aligned by file and key.
"""

import argparse
import collections
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..common.cli import UserError, run
from ..common.files import writing

VERSION = "2026.2.3"
WHEEL = f"homeassistant-{VERSION}-py3-none-any.whl"
SHA256 = "8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c"
SPLITS = ("train", "valid", "test")
PAIRS = ("de-en", "fr-en")


def fetch(wheel):
    """Have pip download the wheel to the path ``wheel``, unless it is there already.

    Raises:
        UserError: pip cannot get it, or it is not the pinned file.
    """
    wheel = Path(wheel)
    if not wheel.exists():
        wheel.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".unfinished-") as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
            command += ["--ignore-requires-python", "--only-binary=:all:"]
            pip = subprocess.run(
                [*command, f"homeassistant=={VERSION}"], stderr=subprocess.PIPE, text=True
            )
            if pip.returncode:
                reasons = re.findall(r"^(?:ERROR: )?(?!WARNING|\[notice)(.+)$", pip.stderr, re.M)
                raise UserError(
                    f"pip could not download homeassistant=={VERSION}: {reasons[-1].strip()}. "
                    "Check the network and the disk, then run the same command again."
                )
            check(Path(folder, WHEEL))
            Path(folder, WHEEL).replace(wheel)
    check(wheel)


def check(wheel):
    """Raise :class:`UserError` unless the file ``wheel`` has the pinned SHA-256."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise UserError(
            f"{wheel} has SHA-256 {digest}, expected {SHA256} (homeassistant {VERSION}): "
            "delete it and run the same command again, or give the right file"
        )


def strings(node, key=()):
    """Yield (key, text) of every string in nested JSON; keys are tuples of names."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from strings(child, (*key, name))
    elif isinstance(node, str):
        yield key, node


def pairs_of_wheel(wheel, language):
    """Yield (foreign, English or None) strings in the order of files and keys.

    White space, line breaks included, is folded to single spaces. English is ``None`` where the
    file or the key has no counterpart.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        suffix = f"/translations/{language}.json"
        for name in sorted(n for n in names if n.endswith(suffix)):
            english_name = name[: -len(suffix)] + "/translations/en.json"
            english = {}
            if english_name in names:
                english = dict(strings(json.loads(archive.read(english_name))))
            for key, text in strings(json.loads(archive.read(name))):
                other = english.get(key)
                yield " ".join(text.split()), None if other is None else " ".join(other.split())


def reason_to_drop(foreign, english, max_words):
    """Name the rule by which a pair is left out, or return ``None``."""
    if english is None:
        return "no English string with that file and key"
    if not foreign or not english:
        return "a side is empty"
    if foreign == english:
        return "both sides are equal"
    words = len(foreign.split()), len(english.split())
    if max(words) > max_words:
        return f"a side is longer than {max_words} words"
    if max(words) == 1:
        return "single words"
    return None


def split_of(english, test_twentieths):
    """``train``, ``valid`` or ``test``, by a hash of the English text alone.

    A twentieth is ``valid``, ``test_twentieths`` are ``test``, the others ``train``: a larger
    test set takes from the training set and leaves the validation set as it is.
    """
    draw = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "big") % 20
    if draw == 0:
        return "valid"
    return "test" if draw <= test_twentieths else "train"


def extract(wheel, pair, out, max_words, test_twentieths):
    """Write ``text/{train,valid,test}.{xx,en}`` and ``manifest.json`` below the folder ``out``.

    Pairs with more than ``max_words`` words on a side are left out; ``test_twentieths`` of the
    others are the test set.

    Returns the manifest: where the text is from, pairs kept in each split, pairs dropped and why.
    """
    language = pair.split("-")[0]
    seen = set()
    dropped = collections.Counter()
    kept = {split: [] for split in SPLITS}
    for foreign, english in pairs_of_wheel(wheel, language):
        reason = reason_to_drop(foreign, english, max_words)
        if reason is None and english in seen:
            reason = "English sentence seen before"
        if reason is not None:
            dropped[reason] += 1
            continue
        seen.add(english)
        kept[split_of(english, test_twentieths)].append((foreign, english))

    text = Path(out, "text")
    text.mkdir(parents=True, exist_ok=True)
    for split, pairs in kept.items():
        for side, name in enumerate((language, "en")):
            with writing(text / f"{split}.{name}") as file:
                file.writelines(pair[side] + "\n" for pair in pairs)
    manifest = {
        "corpus": f"Home Assistant {VERSION}, program strings (Apache-2.0)",
        "archive": {"name": WHEEL, "sha256": SHA256},
        "source": language,
        "target": "en",
        "tokenizer": None,
        "subwords": "sentencepiece",
        "max_words": max_words,
        "test_twentieths": test_twentieths,
        "pairs": {split: len(pairs) for split, pairs in kept.items()},
        "dropped": dict(dropped.most_common()),
    }
    with writing(Path(out, "manifest.json")) as file:
        json.dump(manifest, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return manifest


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.corpora.home_assistant", description=__doc__.splitlines()[0]
    )
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--archive", type=Path, required=True, help="the wheel; fetched if absent")
    parser.add_argument("--out", type=Path, required=True, help="folder for text/ and manifest")
    parser.add_argument("--max-words", type=int, required=True, help="longest side of a pair kept")
    parser.add_argument("--test-twentieths", type=int, required=True, help="size of the test set")
    arguments = parser.parse_args()
    if arguments.max_words < 1:
        parser.error(f"--max-words is {arguments.max_words}, expected 1 or more")
    if not 1 <= arguments.test_twentieths <= 18:
        parser.error(f"--test-twentieths is {arguments.test_twentieths}, expected 1 to 18")
    fetch(arguments.archive)
    manifest = extract(
        arguments.archive,
        arguments.pair,
        arguments.out,
        arguments.max_words,
        arguments.test_twentieths,
    )
    kept = manifest["pairs"]
    print("Kept    " + ", ".join(f"{count:,} {split}" for split, count in kept.items()) + " pairs")
    for reason, count in manifest["dropped"].items():
        print(f"Dropped {count:,}: {reason}")


if __name__ == "__main__":
    run(main)
