"""Checksums of files, written ``KIND:HEX``."""

import hashlib
import re
from pathlib import Path

from ..common.cli import UserError

# Hexadecimal digits of each kind; git-blob is what git hash-object prints.
DIGITS = {"md5": 32, "sha256": 64, "git-blob": 40}


def checksum(path, kind):
    """Checksum of a file: ``md5``, ``sha256`` or ``git-blob``, in lower case after its kind."""
    path = Path(path)
    if kind == "git-blob":
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    else:
        digest = hashlib.new(kind)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"


def checked_checksum(text):
    """A checksum that a user wrote, in lower case; raises :class:`UserError` for what is none."""
    kind, _, digits = text.strip().lower().partition(":")
    if kind not in DIGITS or not re.fullmatch(f"[0-9a-f]{{{DIGITS[kind]}}}", digits):
        kinds = ", ".join(f"{name} ({number} digits)" for name, number in DIGITS.items())
        raise UserError(f"the checksum is {text!r}, expected KIND:HEX with KIND one of {kinds}")
    return f"{kind}:{digits}"
