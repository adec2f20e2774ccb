"""Files and folders that are whole or not there: written beside, renamed when finished."""

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from .cli import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def full_disk_told(path):
    """Turn the error of a full disk, which names no file, into a :class:`UserError` that does."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error  # torch.save hides the first behind the second
        while cause is not None and getattr(cause, "errno", None) not in _FULL:
            cause = cause.__context__
        if cause is None:
            raise
        raise UserError(
            f"{path} could not be written ({cause.strerror}): make room on its disk, and run the "
            "same command again"
        ) from None


@contextmanager
def writing(path, mode="w"):
    """Open ``path`` for writing; it appears, or is replaced, when the block ends without error.

    Text is UTF-8 with Unix line ends. What a killed process left beside is written over.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with full_disk_told(path), unfinished.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def making(folder):
    """Give an empty folder that becomes ``folder`` when the block ends without error.

    What a killed process left beside is removed first. ``folder`` itself must not exist.
    """
    folder = Path(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with full_disk_told(folder):
            yield unfinished
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
