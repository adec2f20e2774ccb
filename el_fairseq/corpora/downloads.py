"""Files over HTTP: retried when the connection breaks, checked before they are used."""

import hashlib
import sys
import time
from pathlib import Path

import pooch
import requests

from ..common.cli import UserError
from ..common.files import writing

ATTEMPTS = 5
CHECKSUMS = ("md5", "sha256", "git-blob")


def checksum(path, kind):
    """Hexadecimal checksum of a file: ``md5``, ``sha256`` or ``git-blob`` (git hash-object)."""
    path = Path(path)
    if kind == "git-blob":
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    else:
        digest = hashlib.new(kind)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"


def kind_of(wanted):
    """Kind of a checksum that is written ``KIND:HEX``; raises :class:`UserError` for others."""
    kind, _, digits = wanted.partition(":")
    if kind not in CHECKSUMS or not digits:
        raise UserError(
            f"the checksum is {wanted!r}, expected KIND:HEX with KIND one of {', '.join(CHECKSUMS)}"
        )
    return kind


def fetch(urls, path, wanted, pause=2.0):
    """Download ``path`` from the first of ``urls`` that gives the file with checksum ``wanted``.

    A broken connection, an error of the server (5xx) and a wrong checksum are tried again,
    ``pause`` seconds later and a little longer each time; after that, or when the server does
    not have the file (4xx), the next address is tried.

    Raises:
        UserError: no address gave the file; the message says why for each.
    """
    path = Path(path)
    kind = kind_of(wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    problems = []
    for url in urls:
        for attempt in range(1, ATTEMPTS + 1):
            print(f"Downloading {url}", file=sys.stderr)
            try:
                _download(url, path, kind, wanted)
                return
            except (requests.RequestException, _WrongFile) as error:
                problem = str(error)
                if _is_final(error):
                    break
            if attempt < ATTEMPTS:
                wait = pause * attempt
                print(f"{problem}; trying again in {wait:g} s", file=sys.stderr)
                time.sleep(wait)
        problems.append(f"{url}: {problem}")
    raise UserError(
        f"{path.name} could not be downloaded ({'; '.join(problems)}). Try later, name another "
        "address (--url URL), or fetch it in another way and give it (--archive FILE)."
    )


class _WrongFile(Exception):
    pass


def _download(url, path, kind, wanted):
    # Asked for as it is: the checksum is the file's, not that of what a server makes of it.
    as_it_is = {"Accept-Encoding": "identity"}
    get = pooch.HTTPDownloader(True, chunk_size=1 << 16, timeout=30, headers=as_it_is)
    with writing(path, "wb") as file:
        get(url, file, None)
        file.flush()
        found = checksum(file.name, kind)
        if found != wanted:
            raise _WrongFile(f"what came is {found}, expected {wanted}")


def _is_final(error):
    """True where asking again cannot help: no such file, or no such kind of address."""
    response = getattr(error, "response", None)
    if response is not None:
        return 400 <= response.status_code < 500 and response.status_code not in (408, 429)
    return isinstance(error, ValueError)
