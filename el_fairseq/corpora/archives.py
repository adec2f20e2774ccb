"""Archives: members read by name, written nowhere but inside one folder."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..common.cli import UserError
from ..common.files import making, writing

_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError),
)
COPY_BYTES = 1 << 20


def extract(archive, names, folder):
    """Copy the files called ``names``, in whichever folder of the archive, to the new ``folder``.

    ``archive`` is a tar file, compressed or not, or a zip file. Either all of ``names`` are
    there afterwards or none.

    Raises:
        UserError: the archive is not whole or of another kind, lacks one of the files or has it
            twice, or holds anything that could reach outside a folder: an absolute path, ``..``,
            a link, a device.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise UserError(f"there is no archive {archive}; give a .tgz or .zip file")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                members = [(info.filename, _zip_kind(info)) for info in opened.infolist()]
                _copy(_chosen(members, names, archive), opened.open, folder)
        else:
            with tarfile.open(archive) as opened:
                members = [(info.name, _tar_kind(info)) for info in opened]
                # The checksum of the whole stands behind all that tarfile reads.
                while opened.fileobj.read(COPY_BYTES):
                    pass
                _copy(_chosen(members, names, archive), opened.extractfile, folder)
    except _BROKEN as error:
        raise UserError(
            f"{archive} cannot be read as a .tgz or .zip archive ({error}): it is cut off, damaged "
            "or something else; fetch it again"
        ) from None
    except OSError as error:
        if error.errno is None:  # a gzip stream that is no gzip stream
            raise UserError(f"{archive} is damaged ({error}); fetch it again") from None
        raise


def _tar_kind(info):
    if info.isdir():
        return "folder"
    return "file" if info.isfile() else "link or device"


def _zip_kind(info):
    mode = info.external_attr >> 16
    if info.is_dir():
        return "folder"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "link or device"


def _chosen(members, names, archive):
    """Full member name of each of ``names``, once every member of the archive has been judged."""
    found = {}
    for member, kind in members:
        path = PurePosixPath(member.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{archive} holds {member!r}, which leads outside its folder: refused")
        if kind == "link or device":
            raise UserError(f"{archive} holds {member!r}, a link or a device: refused")
        if kind == "file" and path.name in names:
            if path.name in found:
                raise UserError(
                    f"{archive} holds {path.name} twice: {found[path.name]} and {member}; "
                    "give an archive of one experiment"
                )
            found[path.name] = member
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{archive} lacks {', '.join(missing)}; give the archive that holds them")
    return found


def _copy(found, opener, folder):
    with making(folder) as unfinished:
        for name, member in found.items():
            with opener(member) as source, writing(unfinished / name, "wb") as target:
                while True:
                    block = source.read(COPY_BYTES)
                    if not block:
                        break
                    target.write(block)
