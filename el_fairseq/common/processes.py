"""Child processes that do not outlive the process that started them."""

import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
SECONDS_TO_END = 10
SECONDS_TO_SIGNAL_AGAIN = 0.05


def start(command, **options):
    """Start a command which Linux kills when the thread that called this ends, however it ends.

    ``options`` are those of ``subprocess.Popen``. What the command starts in turn is not killed
    with it, unless it starts that in this way, too.
    """
    parent = os.getpid()

    def end_with_parent():
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the kernel was told
            os._exit(1)

    return subprocess.Popen(command, preexec_fn=end_with_parent if _prctl else None, **options)


def end(children):
    """Ask children to end (SIGTERM), and kill those that are still there seconds later."""
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def exit_on_signals():
    """Have SIGTERM and SIGHUP raise ``SystemExit``, so that children are ended on the way out.

    A signal that is ignored (``nohup``) stays so. One that comes where Python drops exceptions, in
    a finalizer or while it forks, comes again, and so does SIGINT.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)
    sys.unraisablehook = _signal_again


class _Signalled(SystemExit):
    pass


def _exit(number, _):
    raise _Signalled(128 + number)


def _signal_again(dropped):
    number = signal.SIGINT
    if issubclass(dropped.exc_type, _Signalled):
        number = dropped.exc_value.code - 128
    elif not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    # Later, for now it would be dropped again.
    again = threading.Timer(SECONDS_TO_SIGNAL_AGAIN, os.kill, [os.getpid(), number])
    again.daemon = True
    again.start()


def ending(status):
    """How a child ended, in words: ``"status 1"``, ``"signal SIGKILL"``."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
