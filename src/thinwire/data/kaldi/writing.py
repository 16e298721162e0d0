"""Ark files with a list of what is in them, as Kaldi reads them."""

import contextlib
import os
import struct
from io import BufferedWriter
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from thinwire.data.kaldi.vectors import STORED
from thinwire.files import check_regular, write_atomically, writing


class ArkWriter:
    """Writes NAME.ark, and NAME.scp when all is written.

    Leaving the ``with`` block by an exception removes the ark file and leaves an older scp file as
    it was.

    Args:
        folder: where; it is made if need be.
        name: of both files, without suffix.

    Raises:
        FileError: a file cannot be written.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._ark, self._scp = folder / f"{name}.ark", folder / f"{name}.scp"
        self._part = folder / f".{name}.ark.part"
        self._lines: list[str] = []
        with writing(self._ark):
            folder.mkdir(parents=True, exist_ok=True)
            self._part.unlink(missing_ok=True)
            for path in (self._ark, self._scp):
                if path.exists() or path.is_symlink():
                    check_regular(path)
            self._file: BufferedWriter = self._part.open("xb")

    def matrix(self, utterance: str, values: NDArray[np.float32]) -> None:
        """Write a matrix of float32, [frames, values]."""
        rows, columns = values.shape
        head = b"\0BFM " + struct.pack("<bibi", 4, rows, 4, columns)
        self._write(utterance, head + np.ascontiguousarray(values, "<f4").tobytes())

    def vector(self, utterance: str, values: NDArray[np.integer]) -> None:
        """Write a vector of whole numbers of 4 bytes, such as class numbers."""
        stored = np.empty(len(values), STORED)
        stored["bytes"], stored["value"] = 4, values
        self._write(utterance, b"\0B" + struct.pack("<bi", 4, len(values)) + stored.tobytes())

    def _write(self, utterance: str, content: bytes) -> None:
        if not utterance or len(utterance.split()) != 1:
            raise ValueError(f"expected the name of an utterance without spaces, got {utterance!r}")
        with writing(self._ark):
            self._file.write(f"{utterance} ".encode())
            self._lines.append(f"{utterance} {self._ark.name}:{self._file.tell()}\n")
            self._file.write(content)

    def __enter__(self) -> "ArkWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            with contextlib.suppress(OSError):  # of a full disk, which the error told already
                self._file.close()
            self._part.unlink(missing_ok=True)
            return
        with writing(self._ark):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._ark)
        write_atomically(self._scp, "".join(self._lines))
