"""Moses tokenization and lowercasing: by sacremoses, or by the original Perl scripts."""

import io
import itertools
import multiprocessing
import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import sacremoses

from ..common.cli import UserError

BLOCK_LINES = 20_000
CHUNK_LINES = 500
_LAST_PERIOD = re.compile(r"(?<=[^\s.])\.$")
_tokenizer = None


def tokenize(sentence, tokenizer):
    """Tokenize one sentence with a ``sacremoses.MosesTokenizer``, as Moses' Perl script does.

    sacremoses leaves the period on a last word that is an abbreviation or a single letter ("in
    the U.S."); the script makes it a token of its own, and so does this.
    """
    return _LAST_PERIOD.sub(" .", tokenizer.tokenize(sentence, return_str=True))


def tokenized(sentences, language, moses_dir=None, workers=1):
    """Yield each of ``sentences`` tokenized, in order; memory does not grow with their number.

    With ``moses_dir``, a checkout of Moses, by its ``scripts/tokenizer/tokenizer.perl``;
    otherwise by sacremoses, in ``workers`` processes.
    """
    if moses_dir is not None:
        return _by_perl(sentences, language, tokenizer_script(moses_dir))
    return _by_sacremoses(iter(sentences), language, workers)


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


def _by_sacremoses(sentences, language, workers):
    first = list(itertools.islice(sentences, BLOCK_LINES))
    if workers == 1 or len(first) < 4 * CHUNK_LINES:
        tokenizer = sacremoses.MosesTokenizer(language)
        for sentence in itertools.chain(first, sentences):
            yield tokenize(sentence, tokenizer)
        return
    with multiprocessing.Pool(workers, _start_worker, (language, os.getpid())) as pool:
        block = first
        while block:
            yield from pool.map(_tokenize_here, block, CHUNK_LINES)
            block = list(itertools.islice(sentences, BLOCK_LINES))


def _start_worker(language, parent):
    global _tokenizer
    _tokenizer = sacremoses.MosesTokenizer(language)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent):
    """End this worker once its parent has been killed: nothing else would tell it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _tokenize_here(sentence):
    return tokenize(sentence, _tokenizer)


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
