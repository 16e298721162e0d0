"""Reading IDX files: round trips, and refusing damaged and hostile ones before allocating."""

import gzip
import math
import re
import struct
import tracemalloc

import hypothesis.extra.numpy as numpy_strategies
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from thinwire.data import read_idx


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file-idx-ubyte"


def pack(content, compress):
    return gzip.compress(content) if compress else content


ARRAYS = numpy_strategies.arrays(
    np.uint8, numpy_strategies.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)
)
both = pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])


@both
@settings(deadline=None, max_examples=60)
@given(array=ARRAYS)
def test_reads_back_what_was_written(scratch, encode_idx, compress, array):
    scratch.write_bytes(pack(encode_idx(array.shape, array.tobytes()), compress))
    got = read_idx(scratch)
    assert got.dtype == torch.uint8
    assert tuple(got.shape) == array.shape
    assert np.array_equal(got.numpy(), array)


@both
def test_reads_more_than_one_chunk(scratch, encode_idx, compress):
    want = torch.randint(256, (3, 900, 1000), dtype=torch.uint8)
    scratch.write_bytes(pack(encode_idx(want.shape, want.numpy().tobytes()), compress))
    assert torch.equal(read_idx(scratch, ndim=3), want)


@both
@pytest.mark.parametrize(
    "magic",
    [b"", b"\0\0\x08", b"\1\0\x08\1", b"\0\1\x08\1", b"\0\0\x09\1", b"\0\0\x08\0", b"\0\0\x08\x09"],
    ids=lambda magic: magic.hex() or "empty",
)
def test_refuses_wrong_magic(scratch, compress, magic):
    body = struct.pack(">I", 1) + b"\7" if len(magic) == 4 else b""
    scratch.write_bytes(pack(magic + body, compress))
    with pytest.raises(ValueError, match=f"{scratch}: magic: got .*expected 00 00 08 01 to 08"):
        read_idx(scratch)


def test_refuses_other_number_of_dimensions(scratch, encode_idx):
    scratch.write_bytes(encode_idx((2, 2)))
    with pytest.raises(ValueError, match="magic: got 00 00 08 02, expected 00 00 08 03"):
        read_idx(scratch, ndim=3)


@both
def test_refuses_header_cut_short(scratch, compress):
    scratch.write_bytes(pack(b"\0\0\x08\2" + struct.pack(">I", 3) + b"\0\0", compress))
    with pytest.raises(ValueError, match=f"{scratch}: dimension 1: got 2 bytes, expected 4"):
        read_idx(scratch)


@both
@pytest.mark.parametrize("change", [-6, -1, 1, 7])
def test_refuses_truncated_and_oversized_data(scratch, encode_idx, compress, change):
    content = encode_idx((2, 3))
    content = content[:change] if change < 0 else content + bytes(change)
    scratch.write_bytes(pack(content, compress))
    with pytest.raises(ValueError, match=f"{scratch}: data: got .*expected 2 x 3 = 6 bytes"):
        read_idx(scratch)


@pytest.mark.parametrize("change", [-1, 3])
def test_plain_file_states_how_many_bytes_it_has(scratch, encode_idx, change):
    scratch.write_bytes((encode_idx((6,)) + bytes(3))[: 14 + change])
    with pytest.raises(ValueError, match=f"{scratch}: data: got {6 + change} bytes, expected 6"):
        read_idx(scratch)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 2 << 20])
def test_gzip_is_read_to_its_end_even_where_a_chunk_ends(scratch, encode_idx, size):
    content = encode_idx((size,))
    scratch.write_bytes(gzip.compress(content + b"x"))
    with pytest.raises(ValueError, match="data: got more bytes after the last element"):
        read_idx(scratch)
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1  # the checksum
    scratch.write_bytes(packed)
    with pytest.raises(ValueError, match="gzip stream: got a corrupt"):
        read_idx(scratch)


def test_gzip_too_small_for_its_header_is_not_decompressed(scratch, encode_idx):
    scratch.write_bytes(gzip.compress(encode_idx((1 << 20,), bytes(100))))
    with pytest.raises(ValueError, match="data: got at most"):
        read_idx(scratch)


@both
@pytest.mark.parametrize(
    ("shape", "field"),
    [
        ((60000, 28, 28), "data"),
        ((1 << 30,), "data"),
        ((0xFFFFFFFF, 0xFFFFFFFF), "dimension 1"),
        ((0, 0xFFFFFFFF, 0xFFFFFFFF), "dimension 2"),
        ((0xFFFFFFFF,) * 8, "dimension 1"),
    ],
)
def test_refuses_hostile_header_without_allocating(scratch, encode_idx, compress, shape, field):
    header = encode_idx(shape, b"")
    scratch.write_bytes(pack(header + bytes(100 if math.prod(shape) else 0), compress))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{re.escape(str(scratch))}: {field}: got .*expected"):
            read_idx(scratch)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_stops_decompressing_after_what_the_header_asks_for(scratch, encode_idx):
    scratch.write_bytes(gzip.compress(encode_idx((10,)) + bytes(64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="data: got more bytes after the last element"):
            read_idx(scratch)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("damage", ["truncated", "checksum", "block", "header", "trailing"])
def test_refuses_corrupt_gzip(scratch, encode_idx, damage):
    packed = bytearray(gzip.compress(encode_idx((50, 50), bytes(range(250)) * 10)))
    if damage == "truncated":
        packed = packed[:-20]
    elif damage == "checksum":
        packed[-8] ^= 1
    elif damage == "block":
        packed[len(packed) // 2] ^= 0xFF
    elif damage == "header":
        packed[2] = 99
    else:
        packed += b"junk"
    scratch.write_bytes(packed)
    with pytest.raises(ValueError, match=f"{scratch}: gzip stream: got a corrupt or truncated"):
        read_idx(scratch)


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
