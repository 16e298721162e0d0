"""Where the rows of parameters lie in the buffer FSDP2 hands to its reduce-scatter.

Each parameter is cut along dimension 0 into W chunks of ``ceil(rows / W)`` rows, the last ones
padded; the buffer has all parameters' first chunks, then all second ones, and so on. So worker k's
shard is the k-th part of the buffer.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from thinwire.exchange import Stripe
from thinwire.quantize import Columns, column_lengths


@dataclass(frozen=True)
class Chunk:
    """One worker's rows of one parameter.

    Attributes:
        parameter: its index.
        first: the first row.
        shape: of the rows, padding left out.
        values: in the buffer, padding included.
    """

    parameter: int
    first: int
    shape: torch.Size
    values: int


class ShardLayout:
    """The buffer of one FSDP module.

    Args:
        shapes: of the whole parameters.
        world: number of shards, W.
    """

    def __init__(self, shapes: Sequence[torch.Size], world: int) -> None:
        self.shapes = list(shapes)
        self.shards = [list(self._chunks(rank, world)) for rank in range(world)]

    @property
    def values(self) -> int:
        """Values in the buffer, padding included."""
        return sum(chunk.values for shard in self.shards for chunk in shard)

    @cached_property
    def stripes(self) -> list[Stripe]:
        """One stripe for each worker's shard; columns follow the rows."""
        stripes = []
        start = first_group = 0
        for shard in self.shards:
            columns = Columns.from_lengths(n for chunk in shard for n in _group_lengths(chunk))
            stripes.append(Stripe(start, start + columns.values, first_group, columns))
            start += columns.values
            first_group += columns.groups
        return stripes

    @property
    def columns(self) -> Columns:
        """The groups of the whole buffer."""
        chunks = [chunk for shard in self.shards for chunk in shard]
        return Columns.from_lengths(n for chunk in chunks for n in _group_lengths(chunk))

    def owner_of(self, value: int) -> int:
        """Return the index of the parameter that holds the value at this index of the buffer."""
        ends = accumulate(chunk.values for shard in self.shards for chunk in shard)
        chunks = (chunk for shard in self.shards for chunk in shard)
        return next(c.parameter for c, end in zip(chunks, ends, strict=True) if value < end)

    def unpack(self, buffer: Tensor) -> list[Tensor]:
        """Copies of the whole parameters' values in a buffer ([values])."""
        whole = [buffer.new_empty(shape) for shape in self.shapes]
        for chunk, run in self._runs(buffer):
            whole[chunk.parameter][chunk.first : chunk.first + len(run)] = run
        return whole

    def pack(self, whole: Sequence[Tensor], buffer: Tensor) -> None:
        """The reverse; padding becomes zero."""
        buffer.zero_()
        for chunk, run in self._runs(buffer):
            run.copy_(whole[chunk.parameter][chunk.first : chunk.first + len(run)])

    def _runs(self, buffer: Tensor) -> Iterator[tuple[Chunk, Tensor]]:
        """Views of the buffer, one of each chunk's shape."""
        start = 0
        for shard in self.shards:
            for chunk in shard:
                values = math.prod(chunk.shape)
                yield chunk, buffer[start : start + values].view(chunk.shape)
                start += chunk.values

    def _chunks(self, rank: int, world: int) -> Iterator[Chunk]:
        for i, shape in enumerate(self.shapes):
            rows = shape[0]
            share = -(-rows // world)
            first = min(rank * share, rows)
            own = min(share, rows - first)
            values = share * math.prod(shape[1:])
            yield Chunk(i, first, torch.Size((own, *shape[1:])), values)


def _group_lengths(chunk: Chunk) -> Iterator[int]:
    """Groups of one chunk: its rows', then its padding, which is zero and stays zero."""
    yield from column_lengths(chunk.shape)
    padding = chunk.values - math.prod(chunk.shape)
    if padding:
        yield padding
