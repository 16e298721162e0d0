"""Arrays in .npy files and .npz archives, mapped into memory instead of read; never unpickled."""

import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from thinwire.data.source import content_digest
from thinwire.files import open_regular

Array = NDArray[Any]
Note = Callable[[str], None]

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, lengths of name and extra
_ENCRYPTED = 1


class ArraySource:
    """Two arrays of as many rows; only the rows that are asked for are read.

    Floating-point numbers become float32, integers and truth values int64; targets likewise.
    Inputs of bytes, truth values or integers become float32, too: they are features.

    Args:
        inputs: [n, ...].
        targets: [n, ...].
    """

    def __init__(self, inputs: Array, targets: Array) -> None:
        self._inputs, self._targets = inputs, targets

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input; a number is a vector of one."""
        return self._inputs.shape[1:] or (1,)

    @cached_property
    def identity(self) -> str:
        """A digest of the content."""
        return content_digest(self)

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read some samples."""
        rows = self._inputs[numbers.numpy()].astype(np.float32)
        return torch.from_numpy(rows.reshape(len(rows), *self.shape)), self.targets_of(numbers)

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Read targets alone."""
        rows = self._targets[numbers.numpy()]
        kind = np.float32 if rows.dtype.kind == "f" else np.int64
        return torch.from_numpy(rows.astype(kind))


def open_npy_folder(folder: Path) -> dict[str, Array]:
    """Map every .npy file of a folder, by its name without the ending.

    Raises:
        ValueError: a file is none, holds objects, or is shorter than it says.
        OSError: it cannot be read.
    """
    return {path.stem: open_npy(path) for path in sorted(folder.glob("*.npy"))}


def open_npy(path: Path) -> Array:
    """Map one .npy file; see `open_npy_folder`."""
    with open_regular(path, follow=True) as file:
        return _map_array(file, str(path), os.fstat(file.fileno()).st_size)


def open_npz(path: Path, names: tuple[str, ...], note: Note) -> dict[str, Array]:
    """Map arrays of an .npz archive where they lie in it; compressed ones are read.

    Args:
        path: the archive.
        names: those wanted; others are left out.
        note: told, in one line, of arrays that are read into memory because they are compressed.

    Raises:
        ValueError: it is no archive, or an array of it is damaged or holds objects.
        OSError: it cannot be read.
    """
    found: dict[str, Array] = {}
    try:
        with open_regular(path, follow=True) as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name in names:
                if name in members:
                    found[name] = _open_member(archive, members[name], file, path, note)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path}: got a damaged or no archive ({error}), expected .npz") from None
    return found


def npz_names(path: Path) -> list[str]:
    """List the arrays of an .npz archive.

    Raises:
        ValueError: it is no archive.
        OSError: it cannot be read.
    """
    try:
        with open_regular(path, follow=True) as file, zipfile.ZipFile(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: got no archive ({error}), expected .npz") from None


def check_rows(arrays: Mapping[str, Array], inputs: str, targets: str, where: object) -> None:
    """Check that two arrays are the two halves of samples.

    Raises:
        ValueError: naming the array, if it holds no rows, or as many as the other does not.
    """
    for name in (inputs, targets):
        if arrays[name].ndim == 0 or not arrays[name].size:
            shape = list(arrays[name].shape)
            raise ValueError(f"{where}: {name}: expected [n, ...] with n >= 1, got shape {shape}")
    if len(arrays[inputs]) != len(arrays[targets]):
        raise ValueError(
            f"{where}: {targets}: expected {len(arrays[inputs])} rows, as many as {inputs} has, "
            f"got {len(arrays[targets])}"
        )


def _open_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: BufferedReader, path: Path, note: Note
) -> Array:
    name = f"{path}: {info.filename.removesuffix('.npy')}"
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name}: got an encrypted array, expected a plain one")
    if info.compress_type == zipfile.ZIP_STORED:
        file.seek(info.header_offset)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise ValueError(f"{name}: got a damaged archive, expected a member's header")
        file.seek(name_length + extra_length, 1)
        return _map_array(file, name, file.tell() + info.file_size)
    note(f"{name} is compressed: it is read into memory (numpy.savez leaves arrays uncompressed)")
    with archive.open(info) as stream:
        shape, _, dtype = _header(stream, name)
        _check_type(dtype, name)
    with archive.open(info) as stream:
        try:
            read: Array = npy.read_array(stream, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{name}: expected {list(shape)} of {dtype}: {error}") from None
    return read


def _map_array(file: BufferedReader, name: str, end: int) -> Array:
    """Map the array whose .npy bytes stand in a file from its position to ``end``."""
    shape, fortran, dtype = _header(file, name)
    _check_type(dtype, name)
    wanted, there = int(np.prod(shape, dtype=object)) * dtype.itemsize, end - file.tell()
    if there != wanted:
        raise ValueError(f"{name}: expected {wanted} bytes of {dtype} {list(shape)}, got {there}")
    if not wanted:
        return np.empty(shape, dtype)
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape, order=order)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array in .npy form: {error}") from None
    return shape, fortran, dtype


def _check_type(dtype: np.dtype[Any], name: str) -> None:
    if dtype.hasobject:
        raise ValueError(f"{name}: got Python objects, which are never unpickled; expected numbers")
    if dtype.kind not in "fiub":
        raise ValueError(f"{name}: got {dtype}, expected floating-point numbers or integers")
