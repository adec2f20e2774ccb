"""The end of a corpus' manifest: checksums, versions, and the counts that were published."""

import argparse
import importlib
import json
import platform
import sys
from importlib import metadata
from pathlib import Path

from ..common.cli import run
from ..common.files import writing
from .downloads import checksum

TOOLS = ("sacremoses", "sentencepiece", "subword-nmt", "fairseq", "ve-fairseq")
FOLDERS = ("text", "bpe", "bin")


def versions():
    """Versions of Python and of those tools that are installed."""
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            found[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return found


def checksums(folder):
    """SHA-256 of each output below a corpus folder, by its path; logs, which hold times, aside."""
    paths = (path for name in FOLDERS for path in Path(folder, name).rglob("*"))
    return {
        path.relative_to(folder).as_posix(): checksum(path, "sha256").partition(":")[2]
        for path in sorted(paths)
        if path.is_file() and path.suffix != ".log"
    }


def types_of(dictionary):
    """Number of types of a fairseq dictionary as fairseq counts: with its four special symbols."""
    with Path(dictionary).open("rb") as file:
        return 4 + sum(1 for _ in file)


def differences(counts, expected):
    """One line for each count that is not the expected one."""
    return [
        f"{name}: {counts[name]:,}, expected {count:,}"
        for name, count in expected.items()
        if counts[name] != count
    ]


def finish(folder, corpus):
    """Complete ``manifest.json`` in a corpus folder; return the warnings, one line each.

    ``corpus`` is the corpus' module. Its counts are expected of the published archive alone.
    """
    path = Path(folder, "manifest.json")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["types"] = {
        side: types_of(Path(folder, "bin", f"dict.{side}.txt"))
        for side in (manifest["source"], manifest["target"])
    }
    counts = {
        **manifest["pairs"],
        **{f"types {side}": number for side, number in manifest["types"].items()},
    }
    expected = corpus.EXPECTED if manifest["archive"]["published"] else {}
    manifest["expected"] = expected
    manifest["warnings"] = differences(counts, expected)
    manifest["versions"] = versions()
    manifest["sha256"] = checksums(folder)
    with writing(path) as file:
        json.dump(manifest, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return manifest["warnings"]


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.corpora.manifest", description=__doc__
    )
    parser.add_argument("corpus", choices=("iwslt14", "iwslt17"))
    parser.add_argument("folder", type=Path, help="with manifest.json, text/, bpe/ and bin/")
    options = parser.parse_args()
    corpus = importlib.import_module(f"el_fairseq.corpora.{options.corpus}")
    for warning in finish(options.folder, corpus):
        print(f"warning: {warning}: this is not the published data set", file=sys.stderr)


if __name__ == "__main__":
    run(main)
