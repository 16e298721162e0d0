"""Which phone, and which part of it, each class of frames stands for.

A phone is a chain of states that follow each other, most often three, and a class is one or several
of these states that are told apart by the phones around them (tied states, "senones"). A folder of
Kaldi features may say so in a file ``classes.txt``, one line for each class in order:

    NUMBER PHONE POSITION

Position 0 is the beginning of the phone. The phone ``SIL`` is silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinwire.data.kaldi.vectors import CLASSES
from thinwire.files import read_text, write_atomically

FILE = "classes.txt"
SILENCE = "SIL"
_MOST_POSITIONS = 16


@dataclass(frozen=True)
class Classes:
    """The classes of a corpus.

    Attributes:
        phone_of: the phone of each class.
        position_of: which state of it, from 0.

    Raises:
        ValueError: a phone lacks one of its positions.
    """

    phone_of: tuple[str, ...]
    position_of: tuple[int, ...]

    def __post_init__(self) -> None:
        for phone in self.phones:
            found = {p for q, p in zip(self.phone_of, self.position_of, strict=True) if q == phone}
            if found != set(range(len(found))):
                raise ValueError(
                    f"expected classes for positions 0 to {max(found)} of phone {phone}, "
                    f"got {sorted(found)}"
                )

    def __len__(self) -> int:
        return len(self.phone_of)

    @cached_property
    def phones(self) -> tuple[str, ...]:
        """All phones, in the order of their names."""
        return tuple(sorted(set(self.phone_of)))

    @cached_property
    def states(self) -> tuple[tuple[str, int], ...]:
        """All states of all phones: (phone, position), in order."""
        return tuple(sorted(set(zip(self.phone_of, self.position_of, strict=True))))

    @cached_property
    def state_of(self) -> NDArray[np.int64]:
        """The number in ``states`` of each class, int64 [classes]."""
        number = {state: n for n, state in enumerate(self.states)}
        pairs = zip(self.phone_of, self.position_of, strict=True)
        return np.array([number[pair] for pair in pairs], np.int64)

    def phones_in(self, alignment: NDArray[np.integer]) -> list[str]:
        """Return the phones of an utterance, silence included.

        A phone begins wherever the phone changes or the position falls back.

        Args:
            alignment: classes of its frames, [frames].
        """
        return [self.states[self.state_of[alignment[at]]][0] for at in self.begins(alignment)]

    def begins(self, alignment: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the frames at which the phones of an utterance begin, int64 [phones]."""
        if not len(alignment):
            return np.zeros(0, np.int64)
        number = {phone: n for n, phone in enumerate(self.phones)}
        phones = np.array([number[phone] for phone in self.phone_of])[alignment]
        positions = np.array(self.position_of)[alignment]
        new = (np.diff(phones) != 0) | (np.diff(positions) < 0)
        return np.concatenate([[0], np.flatnonzero(new) + 1])


def write_classes(folder: Path, phones: Sequence[str], positions: Sequence[int]) -> None:
    """Write ``classes.txt``, for classes in order.

    Raises:
        FileError: it cannot be written.
        ValueError: a phone lacks one of its positions.
    """
    classes = Classes(tuple(phones), tuple(positions))
    pairs = zip(classes.phone_of, classes.position_of, strict=True)
    lines = [f"{number} {phone} {position}\n" for number, (phone, position) in enumerate(pairs)]
    write_atomically(folder / FILE, "".join(lines))


def read_classes(folder: Path) -> Classes | None:
    """Read ``classes.txt``; None where there is none.

    Raises:
        ValueError: naming file and line, where it is not as described above.
        OSError: it cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    phones: list[str] = []
    positions: list[int] = []
    for number, line in enumerate(read_text(path, follow=True).splitlines(), 1):
        words = line.split()
        wanted = str(len(phones))
        if (
            len(words) != 3
            or words[0] != wanted
            or not words[2].isdecimal()
            or len(words[2]) > 2
            or int(words[2]) >= _MOST_POSITIONS
            or len(phones) == CLASSES
        ):
            raise ValueError(
                f"{path}: line {number}: expected '{wanted} PHONE POSITION' with a position below "
                f"{_MOST_POSITIONS}, got {line[:60]!r}"
            )
        phones.append(words[1])
        positions.append(int(words[2]))
    if not phones:
        raise ValueError(f"{path}: expected a line for each class, got none")
    try:
        return Classes(tuple(phones), tuple(positions))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
