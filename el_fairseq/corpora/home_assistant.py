"""The short strings of Home Assistant as a parallel corpus, real text that needs nothing but pip.

From its wheel to what fairseq-train reads: about 13,000 training pairs for de-en, 5,000 for fr-en.
The wheel holds ``homeassistant/components/COMPONENT/translations/LANGUAGE.json``, the messages
of one program in some 60 languages (Apache-2.0), aligned by file and key.
"""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from ..common.cli import UserError, run
from . import pairs
from .prepare import DATA, parser_of, prepare, say
from .sources import check

VERSION = "2026.2.3"
WHEEL = f"homeassistant-{VERSION}-py3-none-any.whl"
SHA256 = "8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c"
MAX_WORDS = 6


def download(folder):
    """Have pip download the wheel into a folder; raises :class:`UserError` where it cannot."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    command += ["--ignore-requires-python", "--only-binary=:all:", f"homeassistant=={VERSION}"]
    if subprocess.run(command).returncode:
        raise UserError(
            f"pip could not download homeassistant=={VERSION}, see the error above: check the "
            "network and the disk, then run the same command again"
        )


def strings(node, key=()):
    """Yield (tuple of names, text) of each string in nested JSON, white space folded."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from strings(child, (*key, name))
    elif isinstance(node, str):
        yield key, " ".join(node.split())


def reason_to_drop(foreign, english):
    """Return why a pair is dropped, or ``None``."""
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
    """The subset by a hash of the English text alone, so it never changes."""
    twentieth = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "big") % 20
    return "valid" if twentieth == 0 else "test" if twentieth <= 3 else "train"


def placed(wheel, language):
    """Yield (subset or reason to drop, pair) in the order of files and keys, each English once."""
    seen = {}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in sorted(n for n in names if n.endswith(f"/translations/{language}.json")):
            counterpart, translated = f"{name.rpartition('/')[0]}/en.json", {}
            if counterpart in names:
                translated = dict(strings(json.loads(archive.read(counterpart))))
            for key, foreign in strings(json.loads(archive.read(name))):
                english = translated.get(key)
                reason = reason_to_drop(foreign, english) or seen.get(english)
                if not reason:
                    seen[english] = "English sentence seen before"
                yield reason or split_of(english), (foreign, english)


def main():
    parser = parser_of("home-assistant", __doc__, "home-assistant-PAIR")
    parser.add_argument("pair", choices=("de-en", "fr-en"), help="the languages")
    wheel = "the wheel (default: pip downloads it, 51 MB)"
    parser.add_argument("--archive", type=Path, metavar="FILE", help=wheel)
    options = parser.parse_args()
    out = options.out or DATA / f"home-assistant-{options.pair}"
    archive = options.archive or out.parent / "archives" / WHEEL

    def write_text(folder):
        if not options.archive and not archive.exists():
            download(archive.parent)
        advice = f"delete it, or give the wheel of homeassistant {VERSION}, and run this again"
        check(archive, f"sha256:{SHA256}", advice)
        say(f"Extracting the {options.pair} strings of Home Assistant.")
        languages, subsets = options.pair.split("-"), ("train", "valid", "test")
        return {
            "corpus": f"Home Assistant {VERSION}, program strings (Apache-2.0)",
            "archive": {"name": WHEEL, "sha256": SHA256},
            "tokenizer": None,
            "lowercased": False,
            **pairs.write(folder, languages, subsets, placed(archive, languages[0])),
        }

    prepare(out, {"pair": options.pair, "pieces": 2000}, write_text)


if __name__ == "__main__":
    run(main)
