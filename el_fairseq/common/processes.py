"""Programs that start others, and how signals end them.

SIGINT, SIGTERM and SIGHUP end a program at once. Linux then kills its children, and they leave
nothing half-made (see :mod:`.files`). SIGUSR1 is passed on to the children, which may end as they
like. No exception comes out of a handler, and no Python runs in a fork.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

# sysexits.h's EX_TEMPFAIL: stopped by SIGUSR1, the same command goes on.
STOPPED = 75
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_children = {}  # those that run, with the signal that SIGUSR1 becomes for each
_asked_to_stop = []


class Stopped(SystemExit):
    """The program was asked to stop; ``code`` is the status that it ends with."""


@contextlib.contextmanager
def started(command, gentle=signal.SIGKILL, **options):
    """A child that runs ``command``; it has ended when the block ends.

    Linux kills it when this thread ends in any way. It has a session of its own.

    Args:
        command: list of words.
        gentle: what SIGUSR1 to this program sends to it.
        options: those of ``subprocess.Popen``.

    Raises:
        Stopped: this program is being stopped.
    """
    if _asked_to_stop:
        raise Stopped(STOPPED)
    words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, command)]
    options = {"stdin": subprocess.DEVNULL, **options}
    with subprocess.Popen(words, start_new_session=True, **options) as child:
        _children[child] = gentle
        try:
            if _asked_to_stop:  # since, and the handler did not know the child
                _send(child, gentle)
            yield child
            child.wait()
        finally:
            if child.poll() is None:
                _send(child, signal.SIGKILL)
            del _children[child]


def call(command, **options):
    """Run a command as :func:`started` does, to its end; returns its status."""
    with started(command, **options) as child:
        return child.wait()


def _send(child, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _stop(*_):
    _asked_to_stop.append(True)
    for child, gentle in list(_children.items()):
        _send(child, gentle)


def supervise(work):
    """Run ``work()``, which may start children, to its end; returns its result.

    SIGUSR1 sends each child its gentle signal (SIGKILL, unless it has another) and lets it end;
    stopped so, the program ends with status 75. A signal that is ignored (``nohup``) stays so. To
    be called from the main thread.

    Raises:
        Stopped: SIGUSR1 came. And whatever ``work`` raises.
    """
    # Python's own handler would raise an exception here, and not end the threads of ``work``.
    for number, action in ((signal.SIGINT, signal.SIG_DFL), (signal.SIGUSR1, _stop)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, action)
    try:
        return work()
    except Exception:
        if _asked_to_stop:
            raise Stopped(STOPPED) from None
        raise


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
