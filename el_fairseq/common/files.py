"""Files and folders that are whole or not there: written beside, renamed when finished."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path, mode="w"):
    """Open ``path`` for writing; it appears, or is replaced, when the block ends without error.

    Text is UTF-8 with Unix line ends. What a killed process left beside is written over.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with unfinished.open(mode, **text) as file:
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
        yield unfinished
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
