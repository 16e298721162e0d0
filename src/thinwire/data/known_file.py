"""A file known beforehand by name, size and digest, and storing it without half-written states."""

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from thinwire.files import open_regular


@dataclass(frozen=True)
class KnownFile:
    """A file whose every byte is settled.

    Attributes:
        name: its file name.
        size: in bytes.
        md5: hexadecimal digest; guards against damage, not against forgery.
    """

    name: str
    size: int
    md5: str

    def check(self, content: bytes) -> None:
        """Checks that `content` is this file.

        Raises:
            ValueError: it is not; the text names the file and whether size or MD5 differs.
        """
        if len(content) != self.size:
            raise ValueError(f"{self.name}: size: got {len(content)} bytes, expected {self.size}")
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if digest != self.md5:
            raise ValueError(f"{self.name}: MD5: got {digest}, expected {self.md5}")

    def check_stored(self, folder: Path) -> None:
        """Checks that `folder` holds this file.

        Raises:
            ValueError: what lies there under its name is something else.
            OSError: nothing lies there, or it cannot be read.
        """
        with open_regular(folder / self.name, follow=True) as stream:
            self.check(stream.read(self.size + 1))

    def store(self, content: bytes, folder: Path) -> None:
        """Checks `content` and puts it into `folder` under this file's name, all or nothing.

        Safe with several processes at once: each writes a file of its own and moves it into place.

        Raises:
            ValueError: `content` is not this file; nothing is written.
            OSError: it cannot be written; nothing is left behind.
        """
        self.check(content)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{self.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(temporary).replace(folder / self.name)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
