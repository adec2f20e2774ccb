"""Archives: members found by name."""

import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

from ..common.cli import UserError

_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, NotImplementedError),
)
BLOCK_BYTES = 1 << 20


def extract(archive, names, folder):
    """Paths, by name, of the files called ``names`` in whichever folder of an archive.

    The archive, a tar file, compressed or not, or a zip file, is unpacked into the new ``folder``.

    Raises:
        UserError: it is not whole or of another kind, lacks one of the files or has it twice, or
            holds something that would reach outside ``folder``.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise UserError(f"there is no archive {archive}; give a .tgz or .zip file")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)
        else:
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
                # The checksum of the whole stands behind all that tarfile reads.
                while opened.fileobj.read(BLOCK_BYTES):
                    pass
    except tarfile.FilterError as error:
        raise UserError(f"{archive} is refused: {error}") from None
    except _BROKEN as error:
        reason = str(error).split("\n", 1)[0]
        raise UserError(
            f"{archive} cannot be read as a .tgz or .zip archive ({reason}): it is cut off, "
            "damaged or something else; fetch it again"
        ) from None
    except OSError as error:
        if error.errno is None:  # a gzip stream that is no gzip stream
            raise UserError(f"{archive} is damaged ({error}); fetch it again") from None
        raise
    found = {name: sorted(folder.rglob(name)) for name in names}
    missing = [name for name, paths in found.items() if not paths]
    if missing:
        raise UserError(f"{archive} lacks {', '.join(missing)}; give the archive that holds them")
    for name, paths in found.items():
        if len(paths) > 1:
            places = " and ".join(str(path.relative_to(folder)) for path in paths)
            raise UserError(f"{archive} holds {name} twice: {places}; give one experiment's")
    return {name: paths[0] for name, paths in found.items()}
