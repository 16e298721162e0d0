"""Columns: the groups of values that share two reconstruction levels (S section 3).

The paper ties the levels "within each weight-matrix column (j, l)". Read as the incoming weights of
one output unit that is a row of a torch weight; ``axis="input"`` gives the other reading. Very long
columns are cut and very short ones merged, inside one parameter, so that the levels cost little and
still follow the scale of the gradient.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from thinwire.kernels.schemas import block_counts

Axis = Literal["output", "input"]

SMALLEST, LARGEST = 256, 2048  # values in a group
WORD = 32  # bits; a group's packed signs are padded to whole words


@dataclass(frozen=True)
class Columns:
    """A run of values cut into groups.

    Attributes:
        table: int64 ``[2, G + 1]``, the kernels' layout: row 0 the offsets of the groups' values,
            row 1 the offsets of their packed signs in 32-bit words; both rows start at 0.
    """

    table: Tensor

    @classmethod
    def from_lengths(cls, lengths: Iterable[int]) -> "Columns":
        """Groups of the given numbers of values, in order.

        >>> Columns.from_lengths([40, 10]).table.tolist()
        [[0, 40, 50], [0, 2, 3]]
        """
        values = torch.tensor([0, *lengths], dtype=torch.int64)
        words = (values + WORD - 1) // WORD
        return cls(torch.stack([values.cumsum(0), words.cumsum(0)]))

    @property
    def groups(self) -> int:
        """Number of groups, G."""
        return self.table.shape[1] - 1

    @property
    def values(self) -> int:
        """Number of values in all groups."""
        return int(self.table[0, -1])

    @property
    def words(self) -> int:
        """32-bit words of packed signs in all groups."""
        return int(self.table[1, -1])

    def packed_table(self, bits: int) -> Tensor:
        """``table`` with the words row for ``bits`` bits a value instead of one; made once."""
        if bits not in self._packed_tables:
            lengths = self.table[0].diff(prepend=self.table[0, :1])
            words = (lengths * bits + WORD - 1) // WORD
            self._packed_tables[bits] = torch.stack([self.table[0], words.cumsum(0)])
        return self._packed_tables[bits]

    @cached_property
    def _packed_tables(self) -> dict[int, Tensor]:
        return {}

    @cached_property
    def block_table(self) -> Tensor:
        """int64 ``[3, G + 1]``: ``table``, and the offsets of the rotated code's levels."""
        counts, _ = block_counts(self.table[0].diff(prepend=self.table[0, :1]))
        return torch.cat([self.table, counts.cumsum(0)[None]])

    def run(self, first: int, last: int) -> "Columns":
        """Groups ``first .. last - 1`` as columns of their own."""
        part = self.table[:, first : last + 1]
        return Columns((part - part[:, :1]).contiguous())

    def group_of(self, value: int) -> int:
        """The group that holds the value at this index."""
        return int(torch.searchsorted(self.table[0, 1:].contiguous(), value, right=True))


def column_lengths(shape: torch.Size | tuple[int, ...], axis: Axis = "output") -> list[int]:
    """The group lengths of one parameter, in wire order (see ``flat.wire_view``).

    Args:
        shape: the parameter's shape. A matrix or convolution has one column for each output
            unit (or each input unit); anything with fewer than two dimensions is one column.
        axis: which units' weights belong together.

    Returns:
        Lengths that add up to the number of values. Each is 256..2048 where the parameter has that
        many values.

    >>> column_lengths((2, 784))
    [784, 784]
    >>> column_lengths((10, 100))
    [300, 300, 400]
    >>> column_lengths((2, 3000))
    [1504, 1496, 1504, 1496]
    >>> column_lengths(())
    [1]
    """
    values = 1
    for size in shape:
        values *= size
    if values == 0:
        return []
    if len(shape) < 2:
        count, length = 1, values
    else:
        count = shape[0] if axis == "output" else values // shape[0]
        length = values // count
    if length > LARGEST:
        return _cut(length) * count
    merged = min(count, -(-SMALLEST // length))
    lengths = [merged * length] * (count // merged)
    lengths[-1] += count % merged * length
    return lengths


def _cut(length: int) -> list[int]:
    """Nearly equal pieces of at most LARGEST values, whole words but for the last."""
    pieces = -(-length // LARGEST)
    words = -(-length // (pieces * WORD))
    piece = words * WORD
    return [piece] * (pieces - 1) + [length - piece * (pieces - 1)]
