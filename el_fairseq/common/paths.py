"""Paths and commands as people read and type them."""

import os
import shlex
import sys
from pathlib import Path

from .cli import UserError

ROOT = Path(__file__).parents[2]


def shown(path):
    """A path as commands in the repository's folder name it: absolute where it is not below.

    Symbolic links are not resolved; bytes that are not UTF-8 are replaced.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() follows links)
    if ROOT in path.parents:
        path = path.relative_to(ROOT)
    return os.fsencode(path).decode("utf-8", "replace")


def usable(folder):
    """The absolute path of a folder that fairseq can be given.

    Raises:
        UserError: it holds a colon or a comma, or is not UTF-8.
    """
    folder = Path(folder).absolute()
    text = str(folder)
    if set(":,") & set(text) or text.encode("utf-8", "replace").decode() != text:
        raise UserError(
            f"fairseq cannot be given {text!r}: it takes UTF-8, and ':' and ',' for the end of a "
            "path; rename it, or choose another folder"
        )
    return folder


def this_command(module):
    """The command that started this process, complete, to be typed in the repository's folder."""
    words = ["-m", f"el_fairseq.{module}", *sys.argv[1:]]
    if Path.cwd() == ROOT:
        return shlex.join([shown(sys.executable), *words])
    return f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join([sys.executable, *words])}"
