import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import moses


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("in the U.S.", "in the U.S ."),
        ("plan B.", "plan B ."),
        ("the end.", "the end ."),
        ("so ...", "so ..."),
        ("so..", "so .."),
        (".", "."),
        ("at 5 p.m. sharp", "at 5 p.m. sharp"),
        ("", ""),
    ],
)
def test_one_period_on_the_last_word_becomes_a_token_of_its_own(sentence, expected):
    assert moses.tokenize(sentence, "en") == expected


def test_many_sentences_in_several_processes_come_out_in_order(monkeypatch):
    monkeypatch.setattr(moses, "BLOCK_LINES", 2500)
    raw = [f"{number} words, isn't it?" for number in range(6000)]
    expected = [f"{number} words , isn &apos;t it ?" for number in range(6000)]
    assert list(moses.tokenized(raw, "en", workers=2)) == expected


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    monkeypatch.setattr(moses, "BLOCK_LINES", 2000)
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "One more."

    stream = moses.tokenized(endless(), "en", workers=2)
    assert next(stream) == "One more ."
    assert read == 2000
    stream.close()


def test_the_workers_of_a_killed_process_end_too():
    code = (
        "import itertools, multiprocessing\n"
        "from el_fairseq.corpora import moses\n"
        "stream = moses.tokenized(itertools.repeat('One.'), 'en', workers=2)\n"
        "next(stream)\n"
        "print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "next(itertools.islice(stream, 10**9, None))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    while any(Path(f"/proc/{pid}").exists() and _is_running(pid) for pid in workers):
        time.sleep(0.1)


def test_a_killed_worker_ends_the_tokenizing_in_one_line(monkeypatch):
    monkeypatch.setattr(moses, "BLOCK_LINES", 2000)
    stream = moses.tokenized(itertools.repeat("One."), "en", workers=2)
    next(stream)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"a tokenizer process was killed.*--workers is 2"):
        next(itertools.islice(stream, 10**9, None))


def test_an_interrupt_ends_the_tokenizing_quietly_and_leaves_no_process():
    code = (
        "import itertools, multiprocessing, signal\n"
        # Also where the suite runs in the background, which ignores it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from el_fairseq.common.cli import run\n"
        "from el_fairseq.corpora import moses\n"
        "def main():\n"
        "    stream = moses.tokenized(itertools.repeat('One.'), 'en', workers=2)\n"
        "    next(stream)\n"
        "    print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "    next(itertools.islice(stream, 10**9, None))\n"
        "run(main)\n"
    )
    for wait in (0, 0.3, 0.7):
        parent = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        workers = [int(word) for word in parent.stdout.readline().split()]
        time.sleep(wait)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        assert parent.communicate() == ("", "") and parent.returncode == 130
        assert not any(map(_is_running, workers))


def _is_running(pid):
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@given(st.text(alphabet=st.characters(exclude_characters="Σ", exclude_categories=["Cs"])))
def test_lowercasing_is_that_of_python_but_for_the_final_sigma(text):
    assert moses.lowercase(text) == text.lower()


def test_a_final_capital_sigma_becomes_an_ordinary_small_one_as_in_perl():
    perl = subprocess.run(
        ["perl", "-CS", "-pe", "$_ = lc"], input="ΟΔΟΣ İzmir ÄÖẞ", stdout=-1, encoding="utf-8"
    )
    assert moses.lowercase("ΟΔΟΣ İzmir ÄÖẞ") == perl.stdout
