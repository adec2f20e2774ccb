"""The stages that every corpus goes through, from text to what fairseq-train reads."""

import argparse
import os
import re
import sys
from pathlib import Path

from ..common.cli import UserError, whole_number
from ..common.files import making
from ..common.locks import only_here
from ..common.state import read_json, write_json
from ..common.text import lines_of
from . import languages, manifest, subwords

# Models made by fairseq's defaults take no sentence of more tokens, the end-of-sentence included.
MAX_POSITIONS = 1024
POOL_HELP = "score all test sets also as one, all, on which losses are then compared"
EPILOG = """The corpus's folder gets manifest.json (counts, what was dropped and why, checksums,
versions), text/, bpe/ (subwords), bin/ (for fairseq), and references/ where text is kept plain to
score against. What is downloaded stays in the folder archives beside it."""
_TOKENIZED = re.compile(r" [,.](?: |$)|&(?:apos|quot|amp|lt|gt|#\d+);|@-@")


def say(text):
    print(text, file=sys.stderr, flush=True)


def fairseq_path(text):
    """Reader of a path that fairseq can read, for argparse.

    fairseq takes a colon, and its preparation a comma, for the end of a path.
    """
    path = Path(text).resolve()
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{text!r}, whose path is not UTF-8: fairseq cannot read it; choose another"
        ) from None
    if set(":,") & set(str(path)):
        raise argparse.ArgumentTypeError(
            f"{text!r}, whose path holds a colon or a comma ({path}): fairseq takes it for the "
            "end of the path; choose another"
        )
    return path


def parser_of(script, description, name):
    """A parser for ``data-prep/SCRIPT.sh``, whose corpus goes to ``data/NAME`` without ``--out``.

    ``--data``, the folder ``data`` itself, is for the script alone.
    """
    parser = argparse.ArgumentParser(
        prog=f"bash data-prep/{script}.sh",
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help=argparse.SUPPRESS)
    where = f"the corpus (default: data/{name})" if name else "the corpus"
    parser.add_argument("--out", type=fairseq_path, required=not name, metavar="DIR", help=where)
    return parser


def add_workers(parser):
    """Add ``--workers``, the number of processes that tokenize."""
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        default=os.cpu_count(),
        metavar="N",
        help="processes that tokenize (default: all cores)",
    )


def out_of(arguments, name):
    """The corpus's folder: ``--out``, or ``name`` where corpora go.

    Raises:
        UserError: fairseq could not read it there.
    """
    try:
        return arguments.out or fairseq_path(arguments.data / name)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"the corpus would go to {error} by --out") from None


def name_of(path):
    """Name of a file, for a manifest, which is UTF-8 whatever file names are."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def given_options(arguments, *names):
    """Those of an argparse result's options that a user gave: their default is ``None``."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def prepare(out, given, write_text, kind, size, joined, at_most=False):
    """Make the corpus folder ``out`` whole, or see that it is there; nothing else appears.

    Args:
        out: the folder, an absolute path. Where it holds a corpus already, nothing is done.
        given: those options, by name, that a user gave and that shape the corpus.
        write_text: ``write_text(folder)`` writes ``text/`` below ``folder`` and returns the
            manifest so far: ``source``, ``target``, ``tokenizer``, ``pairs`` by subset,
            ``options`` (all that shape the corpus, by name), where there are published counts
            ``expected``, and what else there is to say.
        kind: of subwords, ``sentencepiece`` or ``subword-nmt``.
        size: number of SentencePiece pieces, or of merges.
        joined: one dictionary for both languages.
        at_most: fewer merges will do where the text gives no more.

    Raises:
        UserError: ``out`` is something else, or a corpus of other options; another process is
            making it; the disk is full; the text is not what it should be.
    """

    def make(folder):
        found = write_text(folder)
        _tell_counts(found)
        _check_text(found, folder)
        say(f"Learning and applying subwords ({kind}, {size:,}).")
        longest = subwords.make(folder, found, kind, size, at_most)
        say("Binarizing for fairseq.")
        _binarize(folder, found, joined)
        found = manifest.finished({**found, "subwords": kind}, folder)
        found["warnings"] += _too_long(longest)
        for warning in found["warnings"]:
            say(f"warning: {warning}")
        return found

    make_once(out, given, make)


def make_once(out, given, make):
    """Make the corpus folder ``out``, or see that it is there, as :func:`prepare` does.

    ``make(folder)`` writes the corpus into an empty folder and returns its manifest.
    """
    if is_there(out, given):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(f".{out.name}.lock")
    with only_here(lock, f"{out} is being made by another process: wait for it, or stop it"):
        if is_there(out, given):  # by one that finished while this one began
            return
        with making(out) as folder:
            write_json(folder / "manifest.json", make(folder))
    say(f"The corpus is ready: {out}")


def is_there(out, given):
    """True where ``out`` is that corpus; raises :class:`UserError` where it is something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    path = out / "manifest.json"
    if not path.is_file():
        raise UserError(
            f"{out} is there and is no corpus (it holds no manifest.json), and is left as it is: "
            "choose another --out"
        )
    made = read_json(path, "delete that folder and prepare the corpus again").get("options", {})
    for name, value in given.items():
        if name in made and made[name] != value:
            raise UserError(
                f"the corpus {out} was made with {name} {made[name]}, now it is {value}: choose "
                "another --out, or delete that folder"
            )
    say(f"The corpus is there: {out}")
    return True


def _tell_counts(found):
    kept = ", ".join(f"{count:,} {subset}" for subset, count in found["pairs"].items())
    say(f"Kept    {kept} pairs")
    for reason, count in found["dropped"].items():
        say(f"Dropped {count:,}: {reason}")


def _check_text(found, folder):
    """Refuse a set without sentences, and warn of what would make scores wrong."""
    for subset, count in found["pairs"].items():
        if not count:
            raise UserError(
                f"no pairs are left for {subset} of {found['corpus']}: give more text, or (see "
                "above what was dropped) other limits"
            )
    target = found["target"]
    try:
        languages.sacrebleu_tokenizer(target)
    except UserError as error:
        say(f"note: {error}")
    if found["tokenizer"] is None:
        for subset in found["pairs"]:
            if subset.startswith("test"):
                path = folder / "text" / f"{subset}.{target}"
                warn_of_tokens(lines_of(path), path.name)


def warn_of_tokens(lines, name):
    """Warn where lines that translations are scored against look like tokenized text."""
    if sum(map(bool, map(_TOKENIZED.search, lines))) > len(lines) / 4:
        say(
            f"warning: {name} looks tokenized (it has ' ,' or '&apos;'), and scores are "
            "comparable on plain text alone: give plain text, and --tokenizer moses for what "
            "models read"
        )


def _too_long(longest):
    return [
        f"{name} has a sentence of {tokens:,} subwords, and a model of fairseq's defaults takes "
        f"{MAX_POSITIONS - 1:,}: train with larger --max-source-positions and "
        "--max-target-positions, or it cannot be translated"
        for name, tokens in longest.items()
        if tokens >= MAX_POSITIONS and not name.startswith("train.")
    ]


def _binarize(folder, found, joined):
    from .binarize import preprocess  # fairseq, which takes seconds

    prefixes = {subset: str(folder / "bpe" / subset) for subset in found["pairs"]}
    preprocess(
        *("--source-lang", found["source"], "--target-lang", found["target"]),
        *(["--joined-dictionary"] if joined else []),
        *("--trainpref", prefixes.pop("train"), "--validpref", prefixes.pop("valid")),
        *("--testpref", ",".join(prefixes.values()), "--destdir", str(folder / "bin")),
    )
