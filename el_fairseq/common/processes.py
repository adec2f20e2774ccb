"""Programs that start others, and how signals end them.

SIGINT, SIGTERM and SIGHUP end a program at once. Linux then kills its children, and they leave
nothing half-made (see :mod:`.files`). SIGUSR1 is passed on to the children: it ends them, or lets a
training write a checkpoint first. No exception comes out of a handler, no Python runs in a fork.
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
_children = set()  # those that run
_asked_to_stop = []


@contextlib.contextmanager
def started(command, **options):
    """A child that runs ``command``, a list of words; it has ended when the block ends.

    Linux kills it when this thread ends in any way. It has a session of its own. ``options`` are
    those of ``subprocess.Popen``.

    Raises:
        SystemExit: with status 75; this program is being stopped.
    """
    if _asked_to_stop:
        raise SystemExit(STOPPED)
    words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, command)]
    options = {"stdin": subprocess.DEVNULL, **options}
    with subprocess.Popen(words, start_new_session=True, **options) as child:
        _children.add(child)
        try:
            if _asked_to_stop:  # since, and the handler did not know the child
                _send(child, signal.SIGUSR1)
            yield child
            child.wait()
        finally:
            if child.poll() is None:
                _send(child, signal.SIGKILL)
            _children.remove(child)


def call(command, **options):
    """Run a command as :func:`started` does, to its end; returns its status."""
    with started(command, **options) as child:
        return child.wait()


def _send(child, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _stop(*_):
    _asked_to_stop.append(True)
    for child in list(_children):
        _send(child, signal.SIGUSR1)


def supervise(main):
    """Run ``main()``, which may start children, to its end.

    SIGUSR1 is passed on to them, and they end; stopped so, the program ends with status 75. A
    signal that is ignored (``nohup``) stays so. To be called from the main thread.

    Raises:
        SystemExit: SIGUSR1 came. And whatever ``main`` raises.
    """
    # Python's own handler of SIGINT would raise an exception, and not end the threads of ``main``.
    for number, action in ((signal.SIGINT, signal.SIG_DFL), (signal.SIGUSR1, _stop)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, action)
    try:
        main()
    except Exception:
        if _asked_to_stop:
            raise SystemExit(STOPPED) from None
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
