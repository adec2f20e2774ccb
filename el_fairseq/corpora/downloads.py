"""Files over HTTP: retried when the connection breaks, checked before they are used."""

import sys
import time
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from ..common.cli import UserError
from ..common.files import writing
from ..common.locks import only_here
from .checksums import checksum

ATTEMPTS = 5
SECONDS_OF_SILENCE = 30
# A server that sends less than this in a minute has stalled.
SLOWEST_BYTES, SLOWEST_SECONDS = 60_000, 60


def fetch(urls, path, wanted, advice, pause=2.0):
    """Download ``path`` from the first of ``urls`` that gives the file with checksum ``wanted``.

    Nothing is done where that file is there. A broken or stalled connection, an error of the
    server (5xx) and a wrong checksum are tried again, ``pause`` seconds later and a little longer
    each time; after that, or when the server does not have the file (4xx), the next address is
    tried.

    Raises:
        UserError: no address gave the file, and the message says why for each and ends in
            ``advice``; or another process
            is downloading it.
    """
    path = Path(path)
    kind = wanted.partition(":")[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with only_here(lock, f"{path} is being downloaded by another process: wait for it, or stop it"):
        if path.exists() and checksum(path, kind) == wanted:
            return
        problems = []
        for url in urls:
            problem = _try(url, path, wanted, pause)
            if problem is None:
                return
            problems.append(f"{url}: {problem}")
    raise UserError(
        f"{path.name} could not be downloaded ({'; '.join(problems)}). Try later, or fetch it "
        f"in another way and give it {advice}."
    )


def _try(url, path, wanted, pause):
    """Download from one address; returns the last problem, ``None`` for success."""
    problem = None
    for attempt in range(1, ATTEMPTS + 1):
        if problem is not None:
            wait = pause * (attempt - 1)
            print(f"{problem}; trying again in {wait:g} s", file=sys.stderr)
            time.sleep(wait)
        print(f"Downloading {url}", file=sys.stderr)
        try:
            _download(url, path, wanted)
            return None
        except (requests.RequestException, urllib3.exceptions.HTTPError, _BadAnswer) as error:
            problem = str(error)
            if _is_final(error):
                break
    return problem


class _BadAnswer(Exception):
    pass


def _download(url, path, wanted):
    # Asked for as it is: the checksum is the file's, not that of what a server makes of it.
    as_it_is = {"Accept-Encoding": "identity"}
    with requests.get(
        url, headers=as_it_is, stream=True, timeout=SECONDS_OF_SILENCE
    ) as answer, writing(path, "wb") as file:
        answer.raise_for_status()
        size = answer.headers.get("Content-Length", "")
        total = int(size) if size.isdecimal() else None
        with tqdm(total=total, unit="B", unit_scale=True, leave=False) as bar:
            for block in _blocks(answer.raw):
                file.write(block)
                bar.update(len(block))
        file.flush()
        found = checksum(file.name, wanted.partition(":")[0])
        if found != wanted:
            raise _BadAnswer(f"what came is {found}, expected {wanted}")


def _blocks(raw):
    """Yield what a server sends, as it comes; raises :class:`_BadAnswer` where it trickles."""
    begin, received = time.monotonic(), 0
    for block in iter(lambda: raw.read1(1 << 16), b""):
        yield block
        received += len(block)
        if time.monotonic() - begin > SLOWEST_SECONDS:
            if received < SLOWEST_BYTES:
                raise _BadAnswer(f"only {received} bytes came in {SLOWEST_SECONDS:g} s")
            begin, received = time.monotonic(), 0


def _is_final(error):
    """True where asking again cannot help: no such file, or no such kind of address."""
    response = getattr(error, "response", None)
    if response is not None:
        return 400 <= response.status_code < 500 and response.status_code not in (408, 429)
    return isinstance(error, ValueError)
