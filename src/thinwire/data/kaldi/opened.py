"""Open ark files, a few at a time."""

import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from thinwire.files import open_regular

_MOST = 64


@dataclass(frozen=True)
class Opened:
    """An open file.

    Attributes:
        file: for reading.
        size: in bytes.
    """

    file: BufferedReader
    size: int


class ArkFiles:
    """Files by number; those used last stay open.

    Args:
        folder: where relative paths begin, unless there is no such file: then they begin in the
            current folder, as in Kaldi.

    Attributes:
        paths: of the files, in the order of their numbers.
    """

    def __init__(self, folder: Path) -> None:
        self.paths: list[Path] = []
        self._folder = folder
        self._numbers: dict[str, int] = {}
        self._opened: OrderedDict[int, Opened] = OrderedDict()
        weakref.finalize(self, _close, self._opened)

    def number(self, path: str) -> int:
        """Return the number of a file, as an scp file names it.

        Raises:
            OSError: there can be no such file.
        """
        if path not in self._numbers:
            here = self._folder / path
            found = here if here.exists() else Path(path)
            self._numbers[path] = len(self.paths)
            self.paths.append(found)
        return self._numbers[path]

    def open(self, number: int) -> Opened:
        """Open a file.

        Raises:
            OSError: it is missing, no regular file or cannot be read.
        """
        if number not in self._opened:
            file = open_regular(self.paths[number], follow=True)
            self._opened[number] = Opened(file, file.seek(0, 2))
        self._opened.move_to_end(number)
        while len(self._opened) > _MOST:
            self._opened.popitem(last=False)[1].file.close()
        return self._opened[number]


def _close(opened: Mapping[int, Opened]) -> None:
    for found in opened.values():
        found.file.close()
