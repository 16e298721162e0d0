"""One job at a time in a run folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thinwire.files import open_appending, writing

_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder's lock; the operating system lets go of it when this process ends.

    Args:
        folder: the run folder; it exists.

    Raises:
        ValueError: another process holds it, naming host and process.
        FileError: the lock file cannot be written; links are not followed.
    """
    path = folder / _NAME
    with open_appending(path) as file:
        descriptor = file.fileno()
        with writing(path):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise ValueError(
                    f"run folder {folder}: {holder or 'another process'} trains into it; wait "
                    "until it has ended, or choose another folder by --out"
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
