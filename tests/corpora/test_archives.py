import io
import tarfile
import zipfile

import pytest
from iwslt_archives import write_archive

from el_fairseq.common.cli import UserError
from el_fairseq.corpora.archives import extract

FILES = {"a.txt": b"first\n", "b.txt": b"second\n" * 5000, "other.txt": b"not asked for\n"}


@pytest.mark.parametrize("name", ["talks.tgz", "talks.zip"])
def test_the_members_asked_for_are_found_in_any_folder(tmp_path, name):
    archive = write_archive(tmp_path / name, FILES, folder="./some/folder")
    found = extract(archive, ["a.txt", "b.txt"], tmp_path / "out")
    assert {name: path.read_bytes() for name, path in found.items()} == {
        name: FILES[name] for name in ("a.txt", "b.txt")
    }


def refused(archive, match, names=("a.txt",)):
    with pytest.raises(UserError, match=match) as caught:
        extract(archive, names, archive.parent / "out")
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../a.txt", "x/../../a.txt"])
def test_a_path_that_leads_outside_is_refused(tmp_path, name):
    archive = tmp_path / "talks.tgz"
    with tarfile.open(archive, "w:gz") as file:
        file.addfile(tarfile.TarInfo(name), io.BytesIO())
    refused(archive, "outside")
    assert not (tmp_path / "a.txt").exists()


def test_a_zip_file_writes_nothing_outside_its_folder(tmp_path):
    archive = tmp_path / "talks.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../a.txt", b"x")
    (tmp_path / "in").mkdir()
    found = extract(archive, ["a.txt"], tmp_path / "in" / "out")
    assert found["a.txt"].parent == tmp_path / "in" / "out"


@pytest.mark.parametrize(
    ("kind", "target"),
    [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../b"), (tarfile.CHRTYPE, "")],
)
def test_links_outside_and_devices_are_refused(tmp_path, kind, target):
    archive = tmp_path / "talks.tgz"
    with tarfile.open(archive, "w:gz") as file:
        member = tarfile.TarInfo("a.txt")
        member.type, member.linkname = kind, target
        file.addfile(member)
    refused(archive, "is refused: .*(link|special|outside)")


@pytest.mark.parametrize("name", ["talks.tgz", "talks.zip"])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_an_archive_that_is_cut_off_is_refused_whole(tmp_path, name, share):
    archive = write_archive(tmp_path / name, {f"{n}.txt": bytes(range(256)) * n for n in range(99)})
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    refused(archive, "cut off|damaged", names=("1.txt",))


def test_damage_inside_an_archive_is_noticed(tmp_path):
    archive = write_archive(tmp_path / "talks.zip", {"a.txt": b"abc" * 1000})
    content = bytearray(archive.read_bytes())
    content[45:50] = b"xxxxx"
    archive.write_bytes(content)
    refused(archive, "damaged")


def test_missing_members_are_named(tmp_path):
    archive = write_archive(tmp_path / "talks.tgz", FILES)
    refused(archive, r"lacks c\.txt, d\.txt", names=("a.txt", "c.txt", "d.txt"))


def test_two_members_of_one_name_are_refused(tmp_path):
    archive = tmp_path / "talks.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("2013/a.txt", b"old")
        file.writestr("2014/a.txt", b"new")
    refused(archive, "twice")


def test_an_archive_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="there is no archive"):
        extract(tmp_path / "absent.tgz", ["a.txt"], tmp_path / "out")


def test_a_flipped_bit_anywhere_in_a_packed_archive_is_noticed(tmp_path):
    """Also where the text that is asked for is not touched, and in the checksum at the end."""
    archive = write_archive(tmp_path / "talks.tgz", FILES)
    content = archive.read_bytes()
    for place in range(30, len(content), 7):  # after the header, which holds a name
        damaged = bytearray(content)
        damaged[place] ^= 4
        archive.write_bytes(damaged)
        refused(archive, "cut off|damaged")
    archive.write_bytes(content[:-8] + bytes(4) + content[-4:])
    refused(archive, "CRC")


@pytest.mark.parametrize("mode", ["xz", "bz2"])
def test_damaged_archives_of_other_kinds_are_one_clear_line(tmp_path, mode):
    archive = tmp_path / f"talks.tar.{mode}"
    with tarfile.open(archive, f"w:{mode}") as file:
        member = tarfile.TarInfo("a.txt")
        content = bytes(range(256)) * 999
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 4
    archive.write_bytes(content)
    refused(archive, "cut off|damaged")
