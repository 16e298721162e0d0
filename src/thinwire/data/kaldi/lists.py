"""Text files with a name at the beginning of every line: feats.scp, utt2spk, lists of names.

A line of an scp file is a text to look at and nothing more: commands in it are never run.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thinwire.files import open_regular

_LONGEST = 1 << 16  # bytes of a line
_PLACE = re.compile(
    r"(?P<path>[^|]*?[^|\]:])(:(?P<offset>[0-9]{1,18}))?(\[(?P<first>[0-9]{1,9}):(?P<last>[0-9]{1,9})\])?"
)


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        where: file and number of the line, and the name, for messages.
        number: of the line, from 1.
        name: the first word.
        rest: what follows it, without spaces around it.
    """

    where: str
    number: int
    name: str
    rest: str


@dataclass(frozen=True)
class Place:
    """Where an scp file says that a value is.

    Attributes:
        path: of the file, as it is written.
        offset: in bytes.
        rows: the first and the last row, both included; None: all.
    """

    path: str
    offset: int
    rows: tuple[int, int] | None


def read_lines(path: Path) -> Iterator[Line]:
    """Read a file line by line; only one line is in memory.

    Raises:
        ValueError: naming file and line, which is empty, too long or no text.
        OSError: the file cannot be read.
    """
    with open_regular(path, follow=True) as file:
        number = 0
        while content := file.readline(_LONGEST):
            number += 1
            where = f"{path}: line {number}"
            if len(content) == _LONGEST:
                raise ValueError(f"{where}: expected less than {_LONGEST} bytes, got more")
            try:
                text = content.decode()
            except UnicodeDecodeError:
                raise ValueError(f"{where}: expected text in UTF-8, got other bytes") from None
            words = text.split(maxsplit=1)
            if not words or not words[0].isprintable():
                raise ValueError(f"{where}: expected a name at the beginning, got {text[:40]!r}")
            rest = words[1].rstrip() if len(words) > 1 else ""
            yield Line(f"{where}: {words[0][:80]}", number, words[0], rest)


def parse_place(line: Line) -> Place:
    """Read where a value is: ``PATH``, ``PATH:OFFSET`` or ``PATH:OFFSET[FIRST:LAST]``.

    Raises:
        ValueError: naming the line, if it says something else, such as a command.

    >>> parse_place(Line("feats.scp: line 1", 1, "a", "raw.ark:17[3:5]"))
    Place(path='raw.ark', offset=17, rows=(3, 5))
    """
    text = line.rest
    if text.startswith("|") or text.endswith("|"):
        raise ValueError(
            f"{line.where}: got a command, which is not run; expected PATH:OFFSET "
            "(copy-feats writes the output of commands into an ark file)"
        )
    match = _PLACE.fullmatch(text)
    if match is None or not text.isprintable():
        raise ValueError(
            f"{line.where}: expected PATH:OFFSET, or PATH:OFFSET[FIRST:LAST] for some rows, "
            f"got {text[:80]!r}"
        )
    rows = None
    if match["first"] is not None:
        rows = int(match["first"]), int(match["last"])
        if rows[0] > rows[1]:
            raise ValueError(f"{line.where}: expected FIRST <= LAST, got [{rows[0]}:{rows[1]}]")
    return Place(match["path"], int(match["offset"] or 0), rows)
