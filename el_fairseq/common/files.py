"""Files: text and JSON, locks, and atomic writes."""

import errno
import fcntl
import gzip
import json
import os
import shutil
import zlib
from contextlib import contextmanager
from pathlib import Path

from .cli import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def lines_of(path):
    """Yield the lines of a UTF-8 file, plain or .gz, without byte order mark and line ends.

    ``\\n`` alone ends a line: U+2028 and its like stand in real text.

    Raises:
        UserError: there is no such file, a packed one is damaged, or a line is not UTF-8.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except FileNotFoundError:
        raise UserError(f"there is no {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8; convert the "
            "file (iconv -t utf-8), or give another one"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged ({error}): pack it again") from None


def read_json(path, advice):
    """The object in a JSON file that another command wrote, a ``dict``.

    ``advice`` is what a user can do about a file that is missing or damaged, such as "evaluate
    that run again".

    Raises:
        UserError: there is no such file, or it is no whole JSON.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}, expected a dict")
    except FileNotFoundError:
        raise UserError(f"there is no {path}: {advice}") from None
    except ValueError as error:  # also a UnicodeDecodeError
        raise UserError(f"{path} is damaged ({error}): {advice}") from None
    return value


def write_json(path, value):
    """Write ``value`` as JSON, indented; the file appears, or is replaced, whole."""
    with writing(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def locked(path, what):
    """Lock the file ``path`` and return it, open.

    The lock is held until the file is closed here and the processes that inherited it have
    ended, however they end; a lock file that is left over locks nothing.

    Raises:
        UserError: another process holds it, which means that ``what``, such as "x is being made".
    """
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have finished, and removed the file, since it was opened here.
        if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            raise BlockingIOError
    except BlockingIOError:
        lock.close()
        raise UserError(f"{what} by another process: wait for it, or stop it") from None
    return lock


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
            f"{path} could not be written ({cause.strerror}): free space on its disk, and run "
            "the same command again"
        ) from None


@contextmanager
def writing(path, mode="w"):
    """Open ``path`` for writing; it appears, or is replaced, when the block ends without error.

    Text is UTF-8. Leftovers of a killed process are overwritten.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    encoding = None if "b" in mode else "utf-8"
    try:
        with full_disk_told(path), unfinished.open(mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def making(folder):
    """Give an empty folder that becomes ``folder`` when the block ends without error.

    Leftovers of a killed process are removed first.

    Raises:
        UserError: ``folder`` exists and is not empty, or another process makes it.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    path, unfinished = (folder.with_name(f".{folder.name}.{x}") for x in ("lock", "unfinished"))
    with locked(path, f"{folder} is being made"):
        try:
            if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
                raise UserError(f"{folder} exists; it is not changed: choose another --out")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            with full_disk_told(folder):
                yield unfinished
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            path.unlink()
