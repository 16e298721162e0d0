"""Reading IDX files, the format MNIST is published in, without trusting their headers.

Layout (all integers big-endian): two zero bytes, one byte for the element type (0x08: unsigned
byte, the only one read here), one byte for the number of dimensions, one uint32 per dimension,
then the elements in row-major order. The file may be gzip-compressed.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch

from thinwire.files import open_regular

_UNSIGNED_BYTE = 0x08
_MAX_DIMENSIONS = 8
_MAX_ELEMENTS = 1 << 40
_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate spends at least 2 bits on a match, and a match is at most 258 bytes long.
_DEFLATE_MAX_RATIO = 1032


def read_idx(path: Path, *, ndim: int | None = None) -> torch.Tensor:
    """Reads an IDX file of unsigned bytes, plain or gzip-compressed (told apart by content).

    What the header asks for is compared with the file's real size before anything is allocated;
    memory then grows only with the bytes actually read.

    Args:
        path: the file.
        ndim: the number of dimensions the file must have; None accepts 1 to 8.

    Returns:
        uint8 tensor with the shape the file's header states.

    Raises:
        ValueError: the file is not such an IDX file; the text names the file and the field
            ("magic", "dimension 0", "data", "gzip stream").
        OSError: the file cannot be read.
    """
    with open_regular(path, follow=True) as raw:
        file_bytes = os.fstat(raw.fileno()).st_size
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if not compressed:
            return _read(raw, path, ndim, file_bytes, exact=True)
        try:
            with gzip.open(raw, "rb") as stream:
                most = file_bytes * _DEFLATE_MAX_RATIO
                return _read(cast(BinaryIO, stream), path, ndim, most, exact=False)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(
                f"{path}: gzip stream: got a corrupt or truncated one ({error}), "
                "expected a complete one"
            ) from error


def _read(
    stream: BinaryIO, path: Path, ndim: int | None, available: int, *, exact: bool
) -> torch.Tensor:
    """Reads one IDX stream; `available` is its length in bytes, or a ceiling if not `exact`."""
    shape = _read_header(stream, path, ndim)
    expected = math.prod(shape)
    wanted = f"expected {' x '.join(map(str, shape))} = {expected} bytes"
    remaining = available - 4 - 4 * len(shape)
    if exact and remaining != expected:
        raise ValueError(f"{path}: data: got {remaining} bytes, {wanted}")
    if remaining < expected:
        raise ValueError(f"{path}: data: got at most {remaining} bytes, {wanted}")

    data = bytearray()
    # One byte more than expected: it shows trailing data, and reaching the end of a gzip
    # stream is what makes the gzip module verify its checksum.
    while len(data) <= expected:
        chunk = stream.read(min(_CHUNK_BYTES, expected + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    if len(data) > expected:
        raise ValueError(f"{path}: data: got more bytes after the last element, {wanted}")
    if len(data) < expected:
        raise ValueError(f"{path}: data: got {len(data)} bytes, {wanted}")
    if expected == 0:
        return torch.empty(shape, dtype=torch.uint8, device="cpu")
    return torch.frombuffer(data, dtype=torch.uint8).reshape(shape)


def _read_header(stream: BinaryIO, path: Path, ndim: int | None) -> list[int]:
    """Returns the shape the header states, having checked the magic number."""
    magic = stream.read(4)
    counts = range(1, _MAX_DIMENSIONS + 1) if ndim is None else range(ndim, ndim + 1)
    if len(magic) < 4 or magic[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or magic[3] not in counts:
        dimensions = f"{ndim:02x}" if ndim is not None else f"01 to {_MAX_DIMENSIONS:02x}"
        raise ValueError(
            f"{path}: magic: got {magic.hex(' ') or 'an empty file'}, "
            f"expected 00 00 {_UNSIGNED_BYTE:02x} {dimensions}"
        )

    shape: list[int] = []
    elements = 1
    for axis in range(magic[3]):
        field = stream.read(4)
        if len(field) < 4:
            raise ValueError(f"{path}: dimension {axis}: got {len(field)} bytes, expected 4")
        shape.append(int.from_bytes(field, "big"))
        # Zeros are left out: a shape such as 0 x 2**32 x 2**32 holds no data, yet its strides
        # overflow.
        elements *= max(shape[-1], 1)
        if elements > _MAX_ELEMENTS:
            raise ValueError(
                f"{path}: dimension {axis}: got {' x '.join(map(str, shape))}, "
                f"expected at most {_MAX_ELEMENTS} elements"
            )
    return shape
