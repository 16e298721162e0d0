"""Reading files out of a Debian package, without installing or unpacking it.

A .deb file is an ``ar`` archive, one of whose members, data.tar.xz, holds the files.
"""

import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from thinwire.files import open_regular

FILE_LIMIT = 1 << 24
"""Bytes that one file in a package may have."""

_PACKAGE_LIMIT = 1 << 28
_UNPACKED_LIMIT = 1 << 30  # bytes of all files together
_MAGIC = b"!<arch>\n"
_HEAD = 60  # bytes before the content of each member of an ar archive
_DATA = "data.tar.xz"


def read_files(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the content of regular files of a package.

    Args:
        path: the .deb file.
        wanted: whether to read the file of this name, such as "./usr/share/doc/x/copyright".

    Raises:
        ValueError: it is no such package, is cut off, or a file of it is too large.
        OSError: it cannot be read.
    """
    with open_regular(path, limit=_PACKAGE_LIMIT, follow=True) as file:
        content = file.read()
    try:
        return dict(_regular_files(_ar_member(content, _DATA), wanted))
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path}: expected an intact Debian package, got {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _ar_member(content: bytes, wanted: str) -> memoryview:
    """Return the content of a member of an ar archive."""
    if not content.startswith(_MAGIC):
        raise ValueError(f"expected an ar archive, as Debian packages are, got {content[:8]!r}")
    at = len(_MAGIC)
    while at < len(content):
        name, size = _ar_head(content[at : at + _HEAD])
        at += _HEAD
        if size > len(content) - at:
            raise ValueError(
                f"the file is cut off: expected {size} bytes of {name}, got {len(content) - at}"
            )
        if name == wanted:
            return memoryview(content)[at : at + size]
        at += size + size % 2
    raise ValueError(f"expected a member {wanted}, got none")


def _ar_head(head: bytes) -> tuple[str, int]:
    """Return name and size that the head of a member of an ar archive tells."""
    size = head[48:58].strip()
    if len(head) != _HEAD or head[58:] != b"`\n" or not size.isdigit():
        raise ValueError(f"expected the head of a member of an ar archive, got {head!r}")
    return head[:16].decode("ascii", "replace").strip().removesuffix("/"), int(size)


def _regular_files(
    archive: memoryview, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the wanted files of a tar archive."""
    total = 0
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r|xz") as tar:
        for member in tar:
            total += member.size
            if total > _UNPACKED_LIMIT:
                raise ValueError(f"expected at most {_UNPACKED_LIMIT} bytes unpacked, got more")
            if not member.isreg() or not wanted(member.name):
                continue
            # Also of sparse members, which a few bytes in the archive make arbitrarily large.
            if member.size > FILE_LIMIT:
                raise ValueError(
                    f"{member.name[:200]}: expected at most {FILE_LIMIT} bytes, got {member.size}"
                )
            stream = tar.extractfile(member)
            assert stream is not None  # it is for regular files
            yield member.name, stream.read()
