"""Moses tokenization and lowercasing: by sacremoses, or by the original Perl scripts."""

import functools
import io
import itertools
import os
import re
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import sacremoses

from ..common.cli import UserError
from .checksums import checksum
from .languages import without_spaces, writes_without_spaces

BLOCK_LINES = 20_000
CHUNK_LINES = 500
_LAST_PERIOD = re.compile(r"(?<=[^\s.])\.$")
# What the tokenizer writes for characters that mean something to Moses, or one character.
_CHARACTER = re.compile(r"&(?:amp|apos|quot|lt|gt|#124|#91|#93);|.", re.DOTALL)


@functools.lru_cache(maxsize=None)
def _tokenizer(language):
    return sacremoses.MosesTokenizer(language)


def tokenize(sentence, language):
    """Tokenize one sentence as Moses' Perl script does.

    sacremoses leaves the period on a last word that is an abbreviation or a single letter ("in
    the U.S."); the script makes it a token of its own, and so does this.
    """
    tokens = _tokenizer(language).tokenize(sentence, return_str=True)
    return _LAST_PERIOD.sub(" .", tokens)


def tokenized(sentences, language, moses_dir=None, workers=1):
    """Yield each of ``sentences`` tokenized, in order; memory does not grow with their number.

    With ``moses_dir``, a checkout of Moses, by its ``scripts/tokenizer/tokenizer.perl``;
    otherwise by sacremoses, in ``workers`` processes.

    Raises:
        UserError: a process was killed, or Perl failed.
    """
    if moses_dir is not None:
        return _by_perl(sentences, language, tokenizer_script(moses_dir))
    if workers == 1:
        return (tokenize(sentence, language) for sentence in sentences)
    return _in_processes(iter(sentences), language, workers)


def detokenized(lines, language):
    """Plain text of tokenized ``lines``, by sacremoses.

    In languages without spaces those that it leaves at their characters go, too.
    """
    detokenizer = sacremoses.MosesDetokenizer(language)
    spaces = without_spaces if writes_without_spaces(language) else str
    return [spaces(detokenizer.detokenize(line.split(" "))) for line in lines]


def characters(text):
    """The characters of tokenized text, in which an escape such as ``&apos;`` is one."""
    return _CHARACTER.findall(text)


def lowercase(text):
    """Lowercase as Moses' script does: each character by itself.

    ``str.lower`` alone looks at the neighbours of a capital sigma.
    """
    return "".join(map(str.lower, text))


def tokenizer_script(moses_dir):
    """Path of Moses' tokenizer below a checkout; raises :class:`UserError` if it is not there."""
    script = Path(moses_dir, "scripts", "tokenizer", "tokenizer.perl")
    if not script.is_file():
        raise UserError(
            f"there is no {script}; --moses-dir is {moses_dir}, expected a checkout of Moses "
            "(git clone https://github.com/moses-smt/mosesdecoder)"
        )
    return script


def tool(moses_dir=None):
    """What :func:`tokenized` uses, for a manifest: name and version, or checksum."""
    if moses_dir is not None:
        return f"tokenizer.perl, {checksum(tokenizer_script(moses_dir), 'sha256')}"
    return f"sacremoses {sacremoses.__version__} with the last-word rule of the Perl script"


def _in_processes(sentences, language, workers):
    work = functools.partial(tokenize, language=language)
    with ProcessPoolExecutor(workers, initializer=_watch, initargs=(os.getpid(),)) as pool:
        for block in iter(lambda: list(itertools.islice(sentences, BLOCK_LINES)), []):
            try:
                yield from pool.map(work, block, chunksize=CHUNK_LINES)
            except BrokenProcessPool:
                raise UserError(
                    "a tokenizer process was killed, perhaps for want of memory: run the same "
                    f"command again, with fewer processes (--workers is {workers})"
                ) from None


def _watch(parent):
    """End this worker once its parent has been killed: nothing else would tell it."""

    def end_with_parent():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _by_perl(sentences, language, script):
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as stdin:
        given = 0
        for sentence in sentences:
            stdin.write(sentence + "\n")
            given += 1
        stdin.seek(0)
        command = ["perl", str(script), "-q", "-l", language]
        try:
            perl = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE)
        except FileNotFoundError:
            raise UserError("--moses-dir needs Perl, which is not installed here") from None
        got = 0
        with perl, io.TextIOWrapper(perl.stdout, encoding="utf-8", newline="\n") as lines:
            for line in lines:
                got += 1
                yield line.strip()
    if perl.returncode or got != given:
        raise UserError(
            f"{' '.join(command)} ended with status {perl.returncode} after {got} of {given} "
            "lines; see what it said above"
        )
