"""Debian packages are read, and refused when they are cut off or hostile."""

import io
import tarfile
from pathlib import Path

import pytest

from thinwire.speech.fillets import deb

NAME = "./usr/share/x/sound.ogg"
CONTENT = b"sound" * 100


def ar(*members: tuple[str, bytes]) -> bytes:
    """An ar archive."""
    found = b"!<arch>\n"
    for name, content in members:
        head = f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        found += head.encode() + content + b"\n" * (len(content) % 2)
    return found


def tar(*files: tuple[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    """A tar archive, compressed by xz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return buffer.getvalue()


def package(data: bytes) -> bytes:
    return ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz/", data))


def read(folder: Path, content: bytes) -> dict[str, bytes]:
    path = folder / "x.deb"
    path.write_bytes(content)
    return deb.read_files(path, lambda name: name.endswith(".ogg"))


def test_wanted_files_are_read_and_others_are_not(tmp_path: Path) -> None:
    data = tar((NAME, CONTENT), ("./other", b"other"), links=("./link.ogg",))
    assert read(tmp_path, package(data)) == {NAME: CONTENT}


def test_names_that_lead_elsewhere_are_only_names(tmp_path: Path) -> None:
    found = read(tmp_path, package(tar(("../../outside.ogg", CONTENT))))
    assert found == {"../../outside.ogg": CONTENT}
    assert [path.name for path in tmp_path.iterdir()] == ["x.deb"]


def test_a_package_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = package(tar((NAME, CONTENT)))
    for length in range(0, len(whole) - 1, 7):
        with pytest.raises(ValueError, match=r"x\.deb: expected|x\.deb: the file is cut off"):
            read(tmp_path, whole[:length])


@pytest.mark.parametrize("size", ["-5", "99999999", "1e3", "", "0x10"])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size: str) -> None:
    head = f"{'data.tar.xz':16}{0:<12}{0:<6}{0:<6}{100644:<8}{size:<10}`\n".encode()
    with pytest.raises(ValueError, match=r"x\.deb: (expected the head|the file is cut off)"):
        read(tmp_path, b"!<arch>\n" + head + tar((NAME, CONTENT)))


def test_damaged_data_is_refused(tmp_path: Path) -> None:
    data = bytearray(tar((NAME, CONTENT)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ValueError, match="expected an intact Debian package"):
        read(tmp_path, package(bytes(data)))


def test_a_package_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a member data\.tar\.xz, got none"):
        read(tmp_path, ar(("debian-binary", b"2.0\n")))


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deb, "FILE_LIMIT", 100)
    with pytest.raises(ValueError, match=r"sound\.ogg: expected at most 100 bytes, got 500"):
        read(tmp_path, package(tar((NAME, CONTENT))))


def test_more_than_the_memory_should_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deb, "_UNPACKED_LIMIT", 900)
    with pytest.raises(ValueError, match="expected at most 900 bytes unpacked"):
        read(tmp_path, package(tar((NAME, CONTENT), ("./b.ogg", CONTENT))))
