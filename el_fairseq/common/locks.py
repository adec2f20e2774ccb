"""One process at a time in a folder."""

import fcntl
import os
from contextlib import contextmanager

from .cli import UserError


def locked(path, message):
    """Lock the file ``path`` and return it, open.

    The lock is held until the file is closed here and the processes that inherited it have
    ended, however they end; a lock file that is left over locks nothing.

    Raises:
        UserError: another process holds it; ``message`` says what that one does and what to do. Or
            nothing can be written there.
    """
    try:
        lock = path.open("w")
    except OSError as error:
        raise UserError(
            f"nothing can be written in {path.parent} ({error.strerror}): name a folder of your "
            "own (--help says how), or work in a copy"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(message) from None
    return lock


@contextmanager
def only_here(path, message):
    """Lock the file ``path`` as :func:`locked` does; the file is gone when the block ends."""
    with locked(path, message) as lock:
        # Another process may have removed the file since it was opened here.
        if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            raise UserError(message)
        try:
            yield
        finally:
            path.unlink()
