"""Files of run folders, which anybody may have put there: regular ones only, of bounded size.

A FIFO would block whoever opens it, a link or a device would have what is written land elsewhere,
and a sparse file would fill the memory. Everything here refuses them, naming the file.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

TEXT_LIMIT = 1 << 24
"""Bytes of a recipe, manifest, summary or profile; real ones have thousands."""

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Flags that some systems lack.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


class FileError(OSError):
    """A file cannot be used; the message is one line that names it and says why."""


class StrangeFileError(FileError):
    """What lies under a file's name is no regular file, or too large to be what is expected."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Have errors of writing a file name it: those of a full disk do not.

    Raises:
        FileError: in place of any other error of the operating system.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_regular(path: Path, *, follow: bool = False) -> None:
    """Refuse what is there and is no regular file.

    Args:
        path: the file.
        follow: a link to a regular file will do, as it does for files that users name.

    Raises:
        FileNotFoundError: nothing is there.
        StrangeFileError: something else is there.
    """
    _check_mode(path, (path.stat() if follow else path.lstat()).st_mode)


def open_regular(path: Path, *, limit: int | None = None, follow: bool = False) -> BufferedReader:
    """Open a regular file for reading, without ever waiting for a writer.

    Args:
        path: the file.
        limit: the most bytes it may have; None for any number.
        follow: as `check_regular`.

    Raises:
        OSError: it cannot be read, is no regular file or is too large.
    """
    check_regular(path, follow=follow)
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | (0 if follow else _NO_FOLLOW))
    try:
        found = os.fstat(descriptor)
        _check_mode(path, found.st_mode)  # it may have been replaced since
        if limit is not None and found.st_size > limit:
            raise StrangeFileError(
                f"{path}: expected at most {limit} bytes, got {found.st_size}; it is not read"
            )
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def path_of(file: BinaryIO) -> str:
    """Return a path that leads to an open file, whatever has been put under its name since.

    It is for libraries that open files themselves, and good until the file is closed.
    """
    return f"/dev/fd/{file.fileno()}"


def open_appending(path: Path) -> BinaryIO:
    """Open a regular file for reading and for writing at its end; it is made if missing.

    Raises:
        FileError: it cannot be opened or is no regular file.
    """
    with contextlib.suppress(FileNotFoundError):
        check_regular(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_WAIT | _NO_FOLLOW
    with writing(path):
        descriptor = os.open(path, flags, 0o666)
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "a+b")
    except BaseException:
        os.close(descriptor)
        raise


def check_in_place(file: BinaryIO, path: Path) -> None:
    """Refuse to go on with an open file that its path no longer leads to.

    What is written into a file that has been removed is lost, and nothing says so.

    Raises:
        FileError: it has been removed, moved or replaced.
    """
    try:
        in_place = os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        in_place = False
    if not in_place:
        raise FileError(f"{path}: has been removed, moved or replaced while it was being written")


def read_text(path: Path, *, limit: int = TEXT_LIMIT, follow: bool = False) -> str:
    """Read a small text file in UTF-8; a byte-order mark at its beginning is left out.

    Raises:
        OSError: as `open_regular`.
        ValueError: it is not UTF-8.
    """
    with open_regular(path, limit=limit, follow=follow) as file:
        content = file.read(limit + 1)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: expected text in UTF-8, got UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8: {error}") from None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file in one go: a reader sees the old file or the new one, never a part.

    Raises:
        FileError: it cannot be written, or something that is no regular file has its name; nothing
            is left behind.
    """
    with writing(path):
        with contextlib.suppress(FileNotFoundError):
            check_regular(path)
        temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _check_mode(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((name for test, name in _KINDS if test(mode)), "something else")
    raise StrangeFileError(
        f"{path}: expected a regular file, got {kind}; remove it or name another"
    )
