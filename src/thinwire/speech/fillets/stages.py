"""Results of finished stages, so that a rerun goes on where one stopped."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinwire.files import open_regular, write_atomically, writing

Arrays = dict[str, NDArray[np.generic]]
Tell = Callable[[str, float], None]
"""Told what is being done, and which part of it is done, from 0 to 1."""


class Stages:
    """Stages that follow each other: a stage is run again if it or one before it has changed.

    Args:
        folder: where results are kept, NAME-KEY.npz; it is made if need be.
        inputs: what the first stage depends on.
        tell: told what is being done.

    Raises:
        FileError: the folder cannot be made.
    """

    def __init__(self, folder: Path, inputs: bytes, tell: Tell) -> None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._tell = folder, tell
        self._key = hashlib.sha256(inputs)

    def run(
        self, name: str, settings: object, make: Callable[[Callable[[float], None]], Arrays]
    ) -> Arrays:
        """Return the result of a stage, from the folder if it is there.

        Args:
            name: of the stage.
            settings: what it depends on beside the stages before it; its ``repr`` counts.
            make: runs it; is given a function to tell which part is done.

        Raises:
            FileError: the result cannot be written.
        """
        self._key.update(f"\n{name} {settings!r}".encode())
        path = self._folder / f"{name}-{self._key.hexdigest()[:16]}.npz"
        self._tell(name, 0.0)
        found = _read(path)
        if found is None:
            found = make(lambda share: self._tell(name, share))
            for old in self._folder.glob(f"{name}-{'?' * 16}.npz"):
                old.unlink()
            write_atomically(path, _packed(found))
        return found


def _read(path: Path) -> Arrays | None:
    """Return the arrays of a file; None if it is missing or damaged."""
    try:
        with open_regular(path) as file:
            stored = np.load(file, allow_pickle=False)
            return dict(stored) if isinstance(stored, np.lib.npyio.NpzFile) else None
    except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def _packed(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
