"""Files over HTTP: tried again when something breaks, checked before they are used."""

from pathlib import Path

import pooch
import requests

from ..common.cli import UserError
from .checksums import checksum

ATTEMPTS = 5
SECONDS_OF_SILENCE = 30
# Asked for as it is: the checksum is the file's, not that of what a server makes of it.
_HEADERS = {"Accept-Encoding": "identity"}


def fetch(urls, path, wanted, advice):
    """Download ``path`` from the first of ``urls`` that gives the file with checksum ``wanted``.

    Nothing is done where that file is there. Each address is tried ``ATTEMPTS`` times.

    Raises:
        UserError: no address gave the file, and the message says why for each and ends in
            ``advice``.
    """
    path = Path(path)
    if _problem(path, wanted) is None:
        return
    path.unlink(missing_ok=True)

    def download(url, output, keeper):
        get = pooch.HTTPDownloader(progressbar=True, timeout=SECONDS_OF_SILENCE, headers=_HEADERS)
        get(url, output, keeper)
        problem = _problem(Path(output), wanted)
        if problem is not None:
            raise ValueError(f"what came {problem}")

    problems = []
    for url in urls:
        keeper = pooch.create(
            path.parent,
            base_url="",
            registry={path.name: None},  # checked above: pooch knows no git-blob
            urls={path.name: url},
            retry_if_failed=ATTEMPTS - 1,
        )
        try:
            keeper.fetch(path.name, downloader=download)
            path.chmod(0o644)  # pooch leaves it to its owner alone
            return
        except (requests.RequestException, ValueError) as error:
            problems.append(f"{url}: {error}")
    raise UserError(
        f"{path.name} could not be downloaded ({'; '.join(problems)}). Try later, or fetch it "
        f"in another way and give it {advice}."
    )


def _problem(path, wanted):
    """What is wrong with a file that should have checksum ``wanted``; ``None``: nothing."""
    if not path.exists():
        return "is not there"
    found = checksum(path, wanted.partition(":")[0])
    return None if found == wanted else f"is {found}, expected {wanted}"
