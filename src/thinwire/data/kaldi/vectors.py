"""Vectors of class numbers in ark files, binary or text: one number for each frame."""

import struct
from io import BufferedReader

import numpy as np
from numpy.typing import NDArray

CLASSES = 1 << 20
"""Class numbers must be less; real systems have thousands."""

_DIGITS = 12  # bytes that a number takes in text, with a space
_SKIPPED = 1 << 16  # bytes skipped at once
STORED = np.dtype([("bytes", "<i1"), ("value", "<i4")])
"""A number in a binary vector."""


def read_vector(
    file: BufferedReader, size: int, length: int, where: str
) -> NDArray[np.int64] | None:
    """Read a vector where the file stands, and leave the file behind it.

    Args:
        file: seekable.
        size: bytes of the file.
        length: numbers it should have; nothing is reserved for others.
        where: for messages.

    Returns:
        int64 [length]; None if the vector has another length.

    Raises:
        ValueError: there is something else than whole numbers in [0, CLASSES), or the file ends.
    """
    begin = file.tell()
    if file.read(2) == b"\0B":
        values = _read_binary(file, size, length, where)
    else:
        file.seek(begin)
        values = _read_text(file, length, where)
    if values is not None and len(values):
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest >= CLASSES:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(f"{where}: expected class numbers in [0, {CLASSES}), got {wrong}")
    return values


def _read_binary(
    file: BufferedReader, size: int, length: int, where: str
) -> NDArray[np.int64] | None:
    head = file.read(5)
    if len(head) < 5 or head[0] != 4:
        raise ValueError(
            f"{where}: expected a vector of whole numbers of 4 bytes, got {head!r}; "
            "ali-to-pdf writes such vectors"
        )
    (count,) = struct.unpack("<i", head[1:])
    wanted, there = count * STORED.itemsize, size - file.tell()
    if count < 0 or wanted > there:
        raise ValueError(
            f"{where}: the file is cut off: expected {count} numbers of 5 bytes, got {there} bytes"
        )
    if count != length:
        file.seek(wanted, 1)
        return None
    stored = np.frombuffer(file.read(wanted), STORED)
    if len(stored) != count or (stored["bytes"] != 4).any():
        raise ValueError(f"{where}: got a damaged vector, expected numbers of 4 bytes each")
    return stored["value"].astype(np.int64)


def _read_text(file: BufferedReader, length: int, where: str) -> NDArray[np.int64] | None:
    limit = _DIGITS * (length + 1) + _SKIPPED
    line = file.readline(limit)
    if len(line) == limit and not line.endswith(b"\n"):
        while (skipped := file.readline(_SKIPPED)) and not skipped.endswith(b"\n"):
            pass
        return None
    words = line.split()
    if not all(word.isdigit() or word[:1] == b"-" for word in words):
        wrong = next(word for word in words if not word.isdigit() and word[:1] != b"-")
        raise ValueError(f"{where}: expected whole numbers, got {wrong[:40]!r}")
    try:
        values = np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        raise ValueError(f"{where}: expected whole numbers of 4 bytes, got others") from None
    return values if len(values) == length else None
