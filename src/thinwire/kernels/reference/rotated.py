r"""The rotated sign code: signs and mean magnitudes of c = R v, R orthogonal.

A block of p = 2^k values is rotated by H diag(s) / sqrt(p): H is the Walsh-Hadamard matrix,
H[i, j] = (-1)^popcount(i & j), and s[i] = -1 where an integer hash of i has its top bit set. Every
coefficient is then a sum over the whole block, hence nearly normal however heavy the tails of v,
and signs with the mean magnitude keep about 2/pi of its energy.

A group of n values has blocks of p = the largest power of two up to min(n, 512). Blocks tile it
from its start; where n is not a multiple of p, one more covers the last p values and rotates what
the block before left there. So nothing is padded, one bit a value is sent, every value is mixed
with p - 1 others and R is still orthogonal. The levels are the mean magnitudes of the tiles

    0 .. p | p .. 2 p | ... | .. n - p | n - p .. n        (ceil(n / p) of them; R^-1 = R^T)

The butterflies' order is part of the definition: distances 1, 2, 4 ..., (a, b) -> (a + b, a - b).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from thinwire.kernels.reference.groups import reduce_runs
from thinwire.kernels.schemas import ROTATED_BLOCK, largest_block


def quantise(v: Tensor, layout: Tensor, bits: int, levels: Tensor) -> Tensor:
    """Write the levels [L] of values [n]; return the signs of their rotation, bool [n]."""
    blocks = _blocks(layout, len(v), len(levels))
    c = blocks.apply(
        lambda x: blocks.butterflies(x * blocks.factor), v, (~blocks.ends, blocks.ends)
    )
    levels.copy_((reduce_runs(c.abs().double(), blocks.tiles) / blocks.tiles).float())
    return c >= 0


def reconstruct(bit: Tensor, layout: Tensor, bits: int, levels: Tensor) -> Tensor:
    """Return the values whose rotation has these signs and levels [L], float32 [n]."""
    blocks = _blocks(layout, len(bit), len(levels))
    level = torch.repeat_interleave(levels.float(), blocks.tiles, output_size=len(bit))
    c = torch.where(bit.bool(), level, -level)
    return blocks.apply(
        lambda x: blocks.butterflies(x) * blocks.factor, c, (blocks.ends, ~blocks.ends)
    )


@dataclass(frozen=True)
class _Blocks:
    """The blocks of all groups as rows of a matrix; there are as many as levels, L.

    Attributes:
        at: int64 [L, ROTATED_BLOCK], which value stands where; n where a smaller block has none.
        size: int64 [L, 1], p.
        factor: float32 [L, ROTATED_BLOCK], s / sqrt(p).
        ends: bool [L, 1], whether the block ends a group and overlaps the one before.
        tiles: int64 [L], how many values have the level.
    """

    at: Tensor
    size: Tensor
    factor: Tensor
    ends: Tensor
    tiles: Tensor

    def apply(
        self, transform: Callable[[Tensor], Tensor], v: Tensor, passes: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Transform the blocks of one pass and then those of the other, [n] -> [n]."""
        nowhere = len(v)
        buffer = torch.cat([v, v.new_zeros(1)])
        for rows in passes:
            at = torch.where(rows, self.at, nowhere).view(-1)
            transformed = transform(buffer.index_select(0, at).view(self.at.shape))
            buffer.index_copy_(0, at, transformed.view(-1))
        return buffer[:nowhere]

    def butterflies(self, x: Tensor) -> Tensor:
        """H x of each row's first p values; what stands behind them never reaches them."""
        h = 1
        while h < ROTATED_BLOCK:
            a, b = x.view(len(x), ROTATED_BLOCK // (2 * h), 2, h).unbind(2)
            x = torch.where(self.size > h, torch.stack((a + b, a - b), 2).view(x.shape), x)
            h *= 2
        return x


def _blocks(layout: Tensor, n: int, count: int) -> _Blocks:
    groups = torch.arange(layout.shape[1] - 1, dtype=torch.int64, device=layout.device)
    group = torch.repeat_interleave(groups, layout[2].diff(), output_size=count)
    length = layout[0].diff().index_select(0, group)
    p = _by_length(_SIZES, length)
    tile = torch.arange(count, dtype=torch.int64, device=layout.device) - layout[2].index_select(
        0, group
    )
    rest, last = length % p, length // p
    ends = (rest > 0) & (tile == last)
    start = layout[0].index_select(0, group) + torch.where(ends, length - p, tile * p)
    place = torch.arange(ROTATED_BLOCK, dtype=torch.int64, device=layout.device)
    return _Blocks(
        at=torch.where(place < p[:, None], start[:, None] + place, n),
        size=p[:, None],
        factor=_table(_SIGNS, layout) * _by_length(_NORMS, length)[:, None],
        ends=ends[:, None],
        tiles=torch.where((rest > 0) & (tile == last - 1), rest, p),
    )


def _by_length(table: list[int] | list[float], length: Tensor) -> Tensor:
    """An entry of a table for each length from 0 to ROTATED_BLOCK; beyond that, the last."""
    return _table(table, length).index_select(0, length.clamp(max=ROTATED_BLOCK))


def _table(values: list[int] | list[float], like: Tensor) -> Tensor:
    """Whole numbers as int64, others as float32, on the device of another tensor."""
    dtype = torch.int64 if isinstance(values[0], int) else torch.float32
    return torch.tensor(values, dtype=dtype, device=like.device)


def _hash(x: int) -> int:
    """A 32-bit integer hash ("lowbias32"); float32 arithmetic could not spoil it."""
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


_SIGNS = [-1.0 if _hash(i + 1) >> 31 else 1.0 for i in range(ROTATED_BLOCK)]
_SIZES = [largest_block(length) for length in range(ROTATED_BLOCK + 1)]
_NORMS = [size**-0.5 for size in _SIZES]
