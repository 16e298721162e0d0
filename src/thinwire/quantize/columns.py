"""Columns: the groups of values that share two reconstruction levels (S section 3).

The paper ties the levels "within each weight-matrix column (j, l)". Read as the incoming weights of
one output unit that is a row of a torch weight; ``axis="input"`` gives the other reading. Very long
columns are cut and very short ones merged, inside one parameter, so that the levels cost little and
still follow the scale of the gradient.
"""

import itertools
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from thinwire.kernels.reference.groups import reduce_runs
from thinwire.kernels.schemas import largest_block

Axis = Literal["output", "input"]

SMALLEST, LARGEST = 256, 2048  # values in a group
CPU = torch.device("cpu")
WORD = 32  # bits; a group's packed values are padded to whole words
RUN, RUN_UNIT = (
    144,
    16,
)  # values, about, that share levels of several bits, and what they are cut by


@dataclass(frozen=True, eq=False)
class Columns:
    """A run of values cut into groups.

    The numbers that the host needs are Python integers; the tables that kernels need are tensors on
    ``device``. So a step on a device never waits to learn a size.

    Attributes:
        lengths: number of values of each group, in order.
        device: where ``table``, ``packed_table`` and ``block_table`` live, which must be the device
            of the values; see ``to``.
    """

    lengths: tuple[int, ...]
    device: torch.device = CPU

    @classmethod
    def from_lengths(cls, lengths: Iterable[int]) -> "Columns":
        """Return groups of the given numbers of values, in order.

        >>> Columns.from_lengths([40, 10]).table.tolist()
        [[0, 40, 50], [0, 2, 3]]
        """
        return cls(tuple(lengths))

    def to(self, device: torch.device | str) -> "Columns":
        """Return the same groups with their tables on this device; made once for each device."""
        device = torch.device(device)
        if device == self.device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = Columns(self.lengths, device)
        return self._elsewhere[device]

    @property
    def groups(self) -> int:
        """Number of groups, G."""
        return len(self.lengths)

    @property
    def values(self) -> int:
        """Number of values in all groups."""
        return self.offsets[-1]

    @property
    def words(self) -> int:
        """32-bit words of packed signs in all groups."""
        return self.packed_words(1)

    @cached_property
    def blocks(self) -> int:
        """Number of levels of the rotated code in all groups."""
        return self._block_offsets[-1]

    @cached_property
    def offsets(self) -> list[int]:
        """The index of each group's first value, and the number of values: G + 1 numbers."""
        return _offsets(self.lengths)

    @cached_property
    def word_offsets(self) -> list[int]:
        """The index of each group's first word of packed signs, and ``words``: G + 1 numbers."""
        return _offsets((length + WORD - 1) // WORD for length in self.lengths)

    def packed_words(self, bits: int) -> int:
        """Return how many 32-bit words all groups take at this many bits a value."""
        if bits not in self._packed_words:
            words = ((length * bits + WORD - 1) // WORD for length in self.lengths)
            self._packed_words[bits] = sum(words)
        return self._packed_words[bits]

    @property
    def table(self) -> Tensor:
        """int64 ``[2, G + 1]``, the kernels' layout for one bit a value; see ``packed_table``."""
        return self.packed_table(1)

    def packed_table(self, bits: int) -> Tensor:
        """Return the kernels' layout for values of this many bits; made once.

        Returns:
            int64 ``[2, G + 1]``: row 0 the offsets of the groups' values, row 1 the offsets of
            their packed values in 32-bit words; both rows start at 0.
        """
        if bits not in self._packed_tables:
            lengths = torch.tensor([0, *self.lengths], dtype=torch.int64, device=CPU).to(
                self.device
            )
            words = (lengths * bits + WORD - 1) // WORD
            self._packed_tables[bits] = torch.stack([lengths.cumsum(0), words.cumsum(0)])
        return self._packed_tables[bits]

    @cached_property
    def block_table(self) -> Tensor:
        """int64 ``[3, G + 1]``: ``table``, and the offsets of the rotated code's levels."""
        offsets = torch.tensor(self._block_offsets, dtype=torch.int64, device=CPU).to(self.device)
        return torch.cat([self.table, offsets[None]])

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of each group, [n] -> float64 [G], in the order of the values."""
        return reduce_runs(values.double(), self._lengths_table)

    def spread(self, of_group: Tensor) -> Tensor:
        """Return each group's number at each of its values, [G] -> [n]."""
        return torch.repeat_interleave(of_group, self._lengths_table, output_size=self.values)

    def run(self, first: int, last: int) -> "Columns":
        """Return groups ``first .. last - 1`` as columns of their own, on the same device."""
        return Columns(self.lengths[first:last], self.device)

    def group_of(self, value: int) -> int:
        """Return the group that holds the value at this index."""
        return bisect_right(self.offsets, value) - 1

    def group_of_block(self, level: int) -> int:
        """Return the group that has this one of the rotated code's levels."""
        return bisect_right(self._block_offsets, level) - 1

    @cached_property
    def runs(self) -> "Columns":
        """The same values with every group cut into nearly equal runs of whole words of 2 bits.

        Between the extremes of fewer values levels lie closer together, for which codes of several
        bits can pay: at 4 bits runs of 144 leave a third less squared error than groups of 576, for
        0.17 bits more a value.

        >>> Columns.from_lengths([300, 40]).runs.lengths
        (144, 156, 40)
        """
        cut = {length: _runs(length) for length in set(self.lengths)}
        lengths = itertools.chain.from_iterable(cut[length] for length in self.lengths)
        return Columns(tuple(lengths), self.device)

    @cached_property
    def _lengths_table(self) -> Tensor:
        return torch.tensor(self.lengths, dtype=torch.int64, device=CPU).to(self.device)

    @cached_property
    def _block_offsets(self) -> list[int]:
        return _offsets(-(-length // largest_block(length)) for length in self.lengths)

    @cached_property
    def _packed_words(self) -> dict[int, int]:
        return {}

    @cached_property
    def _packed_tables(self) -> dict[int, Tensor]:
        return {}

    @cached_property
    def _elsewhere(self) -> dict[torch.device, "Columns"]:
        return {}


def _offsets(lengths: Iterable[int]) -> list[int]:
    return [0, *itertools.accumulate(lengths)]


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


def _runs(length: int) -> list[int]:
    """Runs of about RUN values, whole units but for the last."""
    count, units = max(1, (length + RUN // 2) // RUN), length // RUN_UNIT
    bounds = [units * i // count * RUN_UNIT for i in range(count)] + [length]
    return [stop - start for start, stop in itertools.pairwise(bounds)]


def _cut(length: int) -> list[int]:
    """Nearly equal pieces of at most LARGEST values, whole words but for the last."""
    pieces = -(-length // LARGEST)
    words = -(-length // (pieces * WORD))
    piece = words * WORD
    return [piece] * (pieces - 1) + [length - piece * (pieces - 1)]
