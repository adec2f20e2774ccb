"""Programs that start others, and how signals end them.

A program's work runs in a thread of its own; its main thread waits for the work or for a signal,
which the handler only records. Then the main thread kills the children, which leave nothing
half-made (see :mod:`.files`), and the work ends because they did. No exception comes out of a
handler, and no Python runs in a fork.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

SECONDS_TO_END = 2
SECONDS_BETWEEN_LOOKS = 0.1
# sysexits.h's EX_TEMPFAIL: stopped by SIGUSR1, the same command goes on.
STOPPED = 75
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_lock = threading.Lock()
_children = {}  # those that run, and their gentle signals
_statuses = []  # to end with; empty until a signal comes, the last one counts


class Stopped(SystemExit):
    """The program was asked to stop; ``code`` is the status that it ends with."""


@contextlib.contextmanager
def started(command, gentle=signal.SIGKILL, **options):
    """A child that runs ``command``; it has ended when the block ends.

    Linux kills it when this thread ends in any way, and signals end it as
    :func:`supervise` says. It has a session of its own.

    Args:
        command: list of words.
        gentle: what SIGUSR1 to this program sends to it.
        options: those of ``subprocess.Popen``.

    Raises:
        Stopped: this program is being stopped.
    """
    words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, command)]
    options = {"stdin": subprocess.DEVNULL, **options}
    with _lock:
        if _statuses:
            raise Stopped(_statuses[-1])
        child = subprocess.Popen(words, start_new_session=True, **options)
        _children[child] = gentle
    try:
        yield child
        child.wait()
        if _statuses and _statuses[-1] != STOPPED:  # it was ended
            raise Stopped(_statuses[-1])
    finally:
        if child.poll() is None:
            _send(child, signal.SIGKILL)
            child.wait()
        if child.stdout is not None:
            child.stdout.close()
        with _lock:
            del _children[child]


def call(command, **options):
    """Run a command as :func:`started` does, to its end; returns its status."""
    with started(command, **options) as child:
        return child.wait()


def _send(child, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _stop(status, number=None):
    """Start no more children, and send ``number`` to all, or to each its gentle signal."""
    with _lock:
        _statuses.append(status)
        for child, gentle in _children.items():
            _send(child, number or gentle)


def supervise(work):
    """Run ``work()``, which may start children, to its end or to a signal; returns its result.

    SIGINT, SIGTERM and SIGHUP kill the children and then this program, with status 128 and the
    signal's number. SIGUSR1 sends each child its gentle signal (SIGKILL, unless it has another) and
    lets it end; stopped so, the program ends with status 75. A signal that is ignored (``nohup``)
    stays so. To be called once, from the main thread.

    Raises:
        Stopped: a signal came. And whatever ``work`` raises.
    """
    came = []
    for number in (*_ENDING, signal.SIGUSR1):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: came.append(number))
    doing = ThreadPoolExecutor(1).submit(work)
    while not doing.done():
        wait([doing], SECONDS_BETWEEN_LOOKS)
        while came:
            number = came.pop(0)
            if number == signal.SIGUSR1:
                _stop(STOPPED)
                continue
            _stop(128 + number, signal.SIGKILL)
            wait([doing], SECONDS_TO_END)
            if not doing.done():  # it computes; the interpreter's own end would wait for it
                os._exit(128 + number)
            raise Stopped(128 + number)
    if doing.exception() and _statuses:
        raise Stopped(_statuses[-1])
    return doing.result()


def _become(parent, command):
    """Replace this process by a command that Linux kills when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"error: {command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
