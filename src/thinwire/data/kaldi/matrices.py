"""Binary matrices of ark files, plain (FM, DM) and compressed (CM, CM2, CM3), little-endian.

The header is checked against the length of the file, and against what an utterance may have, before
anything is reserved for the values.
"""

import struct
from dataclasses import dataclass
from io import BufferedReader

import numpy as np
from numpy.typing import NDArray

_PLAIN = {b"FM": "<f4", b"DM": "<f8"}
_COMPRESSED = {b"CM": "<u1", b"CM2": "<u2", b"CM3": "<u1"}
_LONGEST = 1 << 22  # rows: 11 hours of 10 ms
_LARGEST = 1 << 26  # values: 256 MiB of float32
_PERCENTILES = 8  # bytes for each column of CM: four numbers of two bytes


@dataclass(frozen=True)
class Matrix:
    """A header.

    Attributes:
        kind: FM, DM, CM, CM2 or CM3.
        rows: number of them.
        columns: number of them.
        begin: where the values begin in the file.
        lowest: smallest value of a compressed matrix.
        spread: from the smallest value to the largest.
    """

    kind: bytes
    rows: int
    columns: int
    begin: int
    lowest: float = 0.0
    spread: float = 0.0

    @property
    def type(self) -> np.dtype[np.generic]:
        """Of a stored value."""
        return np.dtype(_PLAIN.get(self.kind) or _COMPRESSED[self.kind])

    @property
    def stored(self) -> int:
        """Bytes from ``begin`` on."""
        percentiles = _PERCENTILES * self.columns if self.kind == b"CM" else 0
        return percentiles + self.rows * self.columns * self.type.itemsize


def read_header(file: BufferedReader, size: int, offset: int, where: str) -> Matrix:
    """Read the header of a matrix and check that the file has all its values.

    Args:
        file: seekable.
        size: bytes of the file.
        offset: where the matrix begins.
        where: for messages.

    Raises:
        ValueError: there is something else, less than the header says, or far too much.
    """
    file.seek(min(offset, size))  # a file system may not take the largest numbers
    head = file.read(32)
    if head[:2] != b"\0B":
        raise ValueError(
            f"{where}: expected a binary matrix at byte {offset}, got {head[:8]!r}; "
            "copy-feats turns other forms into it"
        )
    kind, _, rest = head[2:].partition(b" ")
    at = offset + 3 + len(kind)
    try:
        if kind in _PLAIN:
            four, rows, too, columns = struct.unpack_from("<bibi", rest)
            found = Matrix(kind, rows, columns, at + 10)
            if (four, too) != (4, 4):
                raise ValueError(f"{where}: got a damaged header, expected numbers of 4 bytes")
        elif kind in _COMPRESSED:
            lowest, spread, rows, columns = struct.unpack_from("<ffii", rest)
            found = Matrix(kind, rows, columns, at + 16, lowest, spread)
        else:
            raise ValueError(
                f"{where}: expected a matrix of kind FM, DM, CM, CM2 or CM3, got {kind[:8]!r}"
            )
    except struct.error:
        raise ValueError(f"{where}: the file ends within the header of the matrix") from None
    if found.rows < 0 or found.columns < 0 or (found.rows and not found.columns):
        raise ValueError(f"{where}: got a matrix of {found.rows} rows and {found.columns} columns")
    if found.rows > _LONGEST or found.rows * found.columns > _LARGEST:
        raise ValueError(
            f"{where}: expected at most {_LONGEST} rows and {_LARGEST} values in a matrix, "
            f"got {found.rows} rows of {found.columns}; split it"
        )
    if found.begin + found.stored > size:
        raise ValueError(
            f"{where}: the file is cut off: expected {found.stored} bytes for "
            f"{found.rows} rows of {found.columns} values, got {max(0, size - found.begin)}"
        )
    return found


def read_values(file: BufferedReader, matrix: Matrix, where: str) -> NDArray[np.float32]:
    """Read the values of a matrix, decompressed.

    Returns:
        float32 [rows, columns].

    Raises:
        ValueError: the file has become shorter since the header was read.
    """
    file.seek(matrix.begin)
    content = file.read(matrix.stored)
    if len(content) != matrix.stored:
        raise ValueError(f"{where}: the file has become shorter since it was opened")
    shape = matrix.rows, matrix.columns
    if matrix.kind == b"CM":
        return _by_percentiles(content, matrix)
    values = np.frombuffer(content, matrix.type).reshape(shape)
    if matrix.kind in _PLAIN:
        return values.astype(np.float32)
    steps = float(np.iinfo(values.dtype).max)
    return np.float32(matrix.lowest) + values.astype(np.float32) * np.float32(matrix.spread / steps)


def _by_percentiles(content: bytes, matrix: Matrix) -> NDArray[np.float32]:
    """CM: each column is piecewise linear in a byte, between its percentiles 0, 25, 75 and 100."""
    head = _PERCENTILES * matrix.columns
    stored = np.frombuffer(content[:head], "<u2").reshape(matrix.columns, 4)
    percentiles = matrix.lowest + stored * (matrix.spread / 65535)
    byte = np.arange(256)
    table = np.stack([np.interp(byte, (0, 64, 192, 255), column) for column in percentiles])
    codes = np.frombuffer(content, np.uint8, offset=head).reshape(matrix.columns, matrix.rows)
    found = np.take_along_axis(table.astype(np.float32), codes, axis=1)
    return np.ascontiguousarray(found.T)
