"""Writing IDX files for the data tests."""

import gzip
import math
import struct

import pytest
import torch


def _encode_idx(shape, data=None):
    body = bytes(math.prod(shape)) if data is None else bytes(data)
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + body


@pytest.fixture(scope="session")
def encode_idx():
    """Returns the bytes of an IDX file, from its shape and its data (default: zeros)."""
    return _encode_idx


@pytest.fixture(scope="session")
def encode_set():
    """Returns the four files of a small data set by name: 5 train and 3 test images, 2 x 3."""

    def encode(seed=0):
        generator = torch.Generator().manual_seed(seed)

        def noise(*shape, high=256):
            values = torch.randint(high, shape, generator=generator)
            return _encode_idx(shape, values.flatten().tolist())

        return {
            "train-images-idx3-ubyte": noise(5, 2, 3),
            "train-labels-idx1-ubyte": noise(5, high=10),
            "t10k-images-idx3-ubyte": noise(3, 2, 3),
            "t10k-labels-idx1-ubyte": noise(3, high=10),
        }

    return encode


@pytest.fixture(scope="session")
def write_files():
    """Writes contents by name into a folder, optionally gzip-compressed and otherwise spelt."""

    def write(folder, contents, *, compress=False, dotted=False):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            spelt = name.replace("-idx", ".idx") if dotted else name
            if compress:
                (folder / f"{spelt}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / spelt).write_bytes(content)
        return folder

    return write
