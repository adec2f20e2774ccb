"""Published files: downloaded, checked, unpacked. Checksums are written ``KIND:HEX``."""

import hashlib
import tarfile
import zipfile
from pathlib import Path

from ..common.cli import UserError

ATTEMPTS = 5
SECONDS_OF_SILENCE = 30


def checksum(path, kind):
    """Checksum of a file: ``md5``, ``sha256`` or ``git-blob`` (what git hash-object prints)."""
    size = Path(path).stat().st_size
    digest = (lambda: hashlib.sha1(b"blob %d\0" % size)) if kind == "git-blob" else kind
    with Path(path).open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, digest).hexdigest()}"


def check(path, wanted, advice):
    """Raise :class:`UserError`, which ends in ``advice``, where a file has another checksum."""
    actual = checksum(path, wanted.partition(":")[0])
    if actual != wanted:
        raise UserError(f"{path} is {actual}, expected {wanted}: {advice}")


def fetch(url, path, wanted, advice):
    """Download the file ``path``, which has the checksum ``wanted``, unless it is there.

    Raises:
        UserError: after ``ATTEMPTS`` attempts; the message ends in ``advice``.
    """
    import pooch
    import requests

    path, kind = Path(path), wanted.partition(":")[0]
    if path.exists() and checksum(path, kind) == wanted:
        return
    path.unlink(missing_ok=True)

    def download(url, output, keeper):
        # As it is: the checksum is the file's, not that of what a server makes of it.
        headers = {"Accept-Encoding": "identity"}
        get = pooch.HTTPDownloader(progressbar=True, timeout=SECONDS_OF_SILENCE, headers=headers)
        get(url, output, keeper)
        actual = checksum(output, kind)  # pooch knows no git-blob
        if actual != wanted:
            raise ValueError(f"the downloaded file has {actual}, expected {wanted}")

    name = path.name
    keeper = pooch.create(
        path.parent, "", registry={name: None}, urls={name: url}, retry_if_failed=ATTEMPTS - 1
    )
    try:
        keeper.fetch(name, downloader=download)
    except (requests.RequestException, ValueError) as error:
        raise UserError(
            f"{name} could not be downloaded ({url}: {error}). Try later, or fetch it in another "
            f"way and give it {advice}."
        ) from None
    path.chmod(0o644)  # pooch leaves it to its owner alone


def extract(archive, names, folder):
    """Paths of the files called ``names`` in whichever folder of an archive.

    The archive, a tar file, packed or not, or a zip file, is unpacked into the new ``folder``.

    Raises:
        UserError: it is damaged, of another kind, would write outside ``folder``, or holds one of
            the files twice or not at all.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)
        else:
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
                while opened.fileobj.read(1 << 20):  # to the checksum at the end
                    pass
    except Exception as error:  # the libraries have a dozen for what they cannot read
        if getattr(error, "errno", None) is not None:  # a full disk, say
            raise
        reason = str(error).split("\n", 1)[0]
        raise UserError(
            f"{archive} cannot be unpacked as a .tgz or .zip archive ({reason}): fetch it again"
        ) from None
    paths = []
    for name in names:
        there = list(Path(folder).rglob(name))
        if len(there) != 1:
            raise UserError(
                f"{archive} holds {len(there)} files {name}, expected one: give another archive"
            )
        paths += there
    return paths
