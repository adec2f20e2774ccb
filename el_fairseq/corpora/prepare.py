"""The stages that every corpus goes through, from text to what fairseq-train reads."""

import platform
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from ..common.cli import UserError, command_line
from ..common.files import lines_of, making, read_json, write_json
from ..common.paths import ROOT, usable
from .sources import checksum
from .subwords import MODELS, Subwords, encode, learn

DATA = ROOT / "data"
AS_MADE = object()  # a setting: see make_once
POOL_HELP = "score all test sets also as one, all, on which losses are then compared"
TOOLS = ("sacremoses", "sentencepiece", "subword-nmt", "fairseq", "ve-fairseq")
_NAMED_PATH = re.compile(r"(?:([A-Za-z0-9._-]+)=)?(.*)", re.DOTALL)
_TOKENIZED = re.compile(r" [,.](?: |$)|&(?:apos|quot|amp|lt|gt|#\d+);|@-@")


def say(text):
    print(text, file=sys.stderr, flush=True)


def parser_of(script, description, name=None):
    """A parser for ``data-prep/SCRIPT.sh``, whose corpus goes to ``data/NAME`` or ``--out``."""
    parser = command_line(f"bash data-prep/{script}.sh", description)
    where = "the corpus's folder" + (f" (default: data/{name})" if name else "")
    parser.add_argument("--out", type=Path, required=not name, metavar="DIR", help=where)
    return parser


def named_tests(texts):
    """Subsets of test sets by name, and their paths by subset, from ``NAME=PATH`` or ``PATH``.

    A set without a name has that of its subset: ``test``, ``test1``, ...

    Raises:
        UserError: a name occurs twice, or is that of another subset.
    """
    tests, paths = {}, {}
    for number, text in enumerate(texts):
        subset = f"test{number or ''}"
        given, paths[subset] = _NAMED_PATH.fullmatch(text).groups()
        name = given or subset
        if name in tests or (re.fullmatch(r"train|valid|all|test\d*", name) and name != subset):
            raise UserError(
                f"--test {text}: the name {name} is that of another set; choose another name"
            )
        tests[name] = subset
    return tests, paths


def prepare(out, settings, write_text, joined=True):
    """Make the corpus folder ``out`` whole, or check that it is there; nothing else appears.

    Args:
        out: the folder. Where it holds the corpus already, nothing is done.
        settings: all that shapes the corpus, by name; among them ``pieces``, the size of
            SentencePiece's vocabulary, or ``merges``, those of subword-nmt.
        write_text: ``write_text(folder)`` writes ``text/`` below ``folder`` and returns what the
            manifest says about it (the recipe in data-prep/README.md has the keys).
        joined: one dictionary for both languages.

    Raises:
        UserError: ``out`` is something else, or a corpus of other settings; another process is
            making it; the disk is full; the text is not what it should be.
    """
    kind, unit = ("subword-nmt", "merges") if "merges" in settings else ("sentencepiece", "pieces")
    size = settings[unit]

    def make(folder):
        from fairseq.data import Dictionary  # seconds

        from .binarize import preprocess

        made = write_text(folder)
        pairs, languages = made["pairs"], (made["source"], made["target"])
        text, bpe = folder / "text", folder / "bpe"
        say(f"Kept    {', '.join(f'{count:,} {subset}' for subset, count in pairs.items())} pairs")
        for reason, count in made["dropped"].items():
            say(f"Dropped {count:,}: {reason}")
        for subset, count in pairs.items():
            if not count:
                raise UserError(
                    f"no pairs are left for {subset} of {made['corpus']}: give more text, or (see "
                    "above what was dropped) other limits"
                )
            if subset.startswith("test") and made["tokenizer"] is None:
                name = f"{subset}.{languages[1]}"
                warn_of_tokens(list(lines_of(text / name)), name)
        say(f"Learning and applying subwords ({kind}, {size:,}).")
        bpe.mkdir()
        path, warnings = bpe / MODELS[kind], []
        training_text = (line for side in languages for line in lines_of(text / f"train.{side}"))
        path.write_bytes(learn(training_text, kind, size))
        model = Subwords(path)
        learnt = path.read_bytes().count(b"\n") - 1  # the first line of codes is the version
        if unit == "merges" and learnt < size:
            warnings.append(f"the text gives {learnt:,} merges, not {size:,}")
        for name in (f"{subset}.{language}" for subset in pairs for language in languages):
            encode(model, lines_of(text / name), bpe / name, f"text/{name}")
        say("Binarizing for fairseq.")
        train, valid, *tests = (str(bpe / subset) for subset in pairs)
        preprocess(
            *("--source-lang", languages[0], "--target-lang", languages[1]),
            *(["--joined-dictionary"] if joined else []),
            *("--trainpref", train, "--validpref", valid, "--testpref", ",".join(tests)),
            *("--destdir", str(folder / "bin")),
        )
        counts = dict(pairs)
        for language in languages:
            dictionary = Dictionary.load(str(folder / "bin" / f"dict.{language}.txt"))
            counts[f"types {language}"] = len(dictionary)
        warnings += [
            f"{name}: {counts[name]:,}, expected {count:,}: this is not the published data set"
            for name, count in made.get("expected", {}).items()
            if counts[name] != count
        ]
        for warning in warnings:
            say(f"warning: {warning}")
        sums = {
            path.relative_to(folder).as_posix(): checksum(path, "sha256").partition(":")[2]
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".log"  # logs hold times
        }
        return {**made, "subwords": kind, "warnings": warnings, "sha256": sums}

    make_once(out, settings, make)


def make_once(out, settings, make):
    """Make the corpus folder ``out``, or check that it is there, as :func:`prepare` does.

    ``make(folder)`` writes the corpus into an empty folder and returns its manifest, which then
    also says the settings, and versions of the tools. A setting that is ``AS_MADE`` may be anything
    in a corpus that is there; ``make`` replaces it.
    """
    out = usable(Path(out).resolve())
    path = out / "manifest.json"
    if path.is_file():
        made = read_json(path, "delete that folder and prepare the corpus again")
        before = made.get("options") or {}
        for name in {**before, **settings}:
            was, now = before.get(name) or None, settings.get(name) or None
            if was != now and now is not AS_MADE:
                raise UserError(
                    f"the corpus {out} was made with {name} {was}, now it is {now}: choose "
                    "another --out, or delete that folder"
                )
        say(f"The corpus is there: {out}")
        return
    with making(out) as folder:
        made = {**make(folder), "options": settings, "versions": versions(TOOLS)}
        write_json(folder / "manifest.json", made)
    say(f"The corpus is ready: {out}")


def warn_of_tokens(lines, name):
    """Warn where lines that translations are scored against look like tokenized text."""
    if sum(map(bool, map(_TOKENIZED.search, lines))) > len(lines) / 4:
        say(
            f"warning: {name} looks tokenized (it has ' ,' or '&apos;'), and scores are "
            "comparable on plain text alone: give plain text, and --tokenizer moses for what "
            "models read"
        )


def versions(packages):
    """Versions, by name, of Python and of those of ``packages`` that are installed."""
    installed = {"python": platform.python_version()}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed
