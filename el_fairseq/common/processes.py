"""Programs that start others, and what signals do to them.

A program's work runs in threads of its own; its main thread waits for the work or for a signal.
The handler of a signal only writes to a pipe. Then the main thread ends the children, and the
work ends because they did. No exception comes out of a handler, and no Python runs in a fork.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

SECONDS_TO_END = 10
# A training that is starting takes no notice of SIGUSR1 yet.
SECONDS_TO_SIGNAL_AGAIN = 1
# sysexits.h's EX_TEMPFAIL: stopped by SIGUSR1, the same command goes on.
STOPPED = 75
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(SystemExit):
    """The program was asked to stop; ``code`` is the status that it ends with."""


class _Children:
    """The children that are running, and the status to end with once a signal came."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = {}
        self.status = None

    def signal_all(self, number=None):
        """Send ``number``, or to each the signal that it was started with."""
        with self.lock:
            for child, gentle in self.running.items():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number or gentle)


_children = _Children()


@contextlib.contextmanager
def started(command, gentle=signal.SIGTERM, **options):
    """A child that runs ``command``; it has ended when the block ends.

    Linux kills it when this thread ends, however that ends, and signals end it as
    :func:`supervise` says. It has a session of its own.

    Args:
        command: list of words.
        gentle: what SIGUSR1 to this program sends to it.
        options: those of ``subprocess.Popen``.

    Raises:
        Stopped: this program is being stopped.
    """
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py"))]
    words = [*launcher, str(os.getpid()), *map(str, command)]
    options = {"stdin": subprocess.DEVNULL, **options}
    with _children.lock:
        if _children.status is not None:
            raise Stopped(_children.status)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:  # the launcher unblocks it, when it is ready to ignore it
            child = subprocess.Popen(words, start_new_session=True, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _children.running[child] = gentle
    try:
        yield child
        child.wait()
        if _children.status not in (None, STOPPED):  # it was ended
            raise Stopped(_children.status)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(SECONDS_TO_END)
        if child.stdout is not None:
            child.stdout.close()
        with _children.lock:
            del _children.running[child]


def call(command, **options):
    """Run a command as :func:`started` does, to its end; returns its status."""
    with started(command, **options) as child:
        return child.wait()


def supervise(work):
    """Run ``work()``, which may start children, to its end or to a signal; returns its result.

    SIGINT, SIGTERM and SIGHUP end the children and then this program, with status 128 and the
    signal's number. SIGUSR1 sends each child its gentle signal and lets it end; stopped so, the
    program ends with status 75. A signal that is ignored (``nohup``) stays so. To be called once,
    from the main thread.

    Raises:
        Stopped: a signal came. And whatever ``work`` raises.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (*_ENDING, signal.SIGUSR1):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # the pipe has it
    outcome = {}

    def run():
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error
        finally:
            os.write(writing, b"\0")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait = None
    while not outcome:
        if select.select([reading], [], [], wait)[0]:
            for number in os.read(reading, 64):
                if number in _ENDING:
                    _end_all(thread, 128 + number)
                elif number == signal.SIGUSR1:
                    _children.status, wait = STOPPED, SECONDS_TO_SIGNAL_AGAIN
        if _children.status is not None:
            _children.signal_all()
    thread.join()
    if "error" not in outcome:
        return outcome["result"]
    if _children.status is not None:
        raise Stopped(_children.status)
    raise outcome["error"]


def _end_all(thread, status):
    _children.status = status
    for number in (signal.SIGTERM, signal.SIGKILL):
        _children.signal_all(number)
        thread.join(SECONDS_TO_END if _children.running else 1)
    if thread.is_alive():  # it computes; the interpreter's own end would wait for its locks
        os._exit(status)
    raise Stopped(status)
