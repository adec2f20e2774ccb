"""Moses tokenization and lowercasing, by sacremoses."""

import functools
import itertools
import os
import re
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import sacremoses

from ..common.cli import UserError
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


def tokenized(sentences, language, workers=1):
    """Yield each of ``sentences`` tokenized by ``workers`` processes, in order.

    Memory does not grow with their number.

    Raises:
        UserError: a process was killed.
    """
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


def normalized(sentences, language):
    """Yield each of ``sentences`` lowercased, with punctuation as Moses' script normalizes it."""
    normalizer = sacremoses.MosesPunctNormalizer(language, perl_parity=True)
    return (normalizer.normalize(lowercase(sentence)) for sentence in sentences)


def tool():
    """What :func:`tokenized` uses, for a manifest: name and version."""
    return f"sacremoses {sacremoses.__version__} with the last-word rule of the Perl script"


def _in_processes(sentences, language, workers):
    work = functools.partial(tokenize, language=language)
    with ProcessPoolExecutor(workers, initializer=_watch, initargs=(os.getpid(),)) as pool:
        # Processes inherit this: Ctrl-C, which comes to all of them, is for their parent alone.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        pool.submit(os.getpid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
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
