"""One process at a time in a folder."""

import fcntl

from .cli import UserError


def locked(path, message):
    """Lock the file ``path`` and return it, open.

    The lock is held until the file is closed here and the processes that inherited it have
    ended, however they end; a lock file that is left over locks nothing.

    Raises:
        UserError: another process holds it; ``message`` says what that one does and what to do.
    """
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(message) from None
    return lock
