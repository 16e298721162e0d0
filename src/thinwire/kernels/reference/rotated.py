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

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.kernels.reference.groups import pack, unpack
from thinwire.kernels.schemas import ROTATED_BLOCK, block_counts, check_rotated_layout


def rotated_encode(
    gradient: Tensor,
    scale: float,
    residual: Tensor,
    layout: Tensor,
    new_residual: Tensor,
    levels: Tensor,
    bits: Tensor,
) -> None:
    """Quantise one bucket to the signs of rotated blocks; see ``schemas``."""
    check_rotated_layout(layout, gradient, levels, bits)
    v = gradient.float() * scale + residual
    bit = torch.zeros_like(v, dtype=torch.bool)
    decoded = torch.zeros_like(v)
    for at, level_at, p in _batches(layout):
        c = _rotate(v[at], p)
        bit[at] = c >= 0
        levels[level_at] = _mean_magnitudes(c, p).to(levels.dtype)
        decoded[at] = _reconstruct(bit[at], levels[level_at].float(), p)
    new_residual.copy_(v - decoded)
    bits.copy_(pack(bit, layout))


def rotated_decode(
    levels: Tensor, bits: Tensor, layout: Tensor, out: Tensor, accumulate: bool
) -> None:
    """Turn the signs and levels of rotated blocks back into values; see ``schemas``."""
    check_rotated_layout(layout, out, levels, bits)
    bit = unpack(bits, layout).bool()
    value = torch.zeros_like(out)
    for at, level_at, p in _batches(layout):
        value[at] = _reconstruct(bit[at], levels[level_at].float(), p)
    if accumulate:
        out.add_(value)
    else:
        out.copy_(value)


def _batches(layout: Tensor) -> list[tuple[Tensor, Tensor, int]]:
    """Groups of one length each: indices of values [m, n], of levels [m, levels], and block."""
    lengths = layout[0].diff()
    batches = []
    for n in lengths[lengths > 0].unique().tolist():
        groups = (lengths == n).nonzero()
        count, p = (int(number) for number in block_counts(torch.tensor(n)))
        values = layout[0][groups] + torch.arange(n, device=layout.device)
        levels = layout[2][groups] + torch.arange(count, device=layout.device)
        batches.append((values, levels, p))
    return batches


def _tiles(n: int, p: int) -> list[int]:
    """Lengths of the runs that have a level of their own."""
    return [p] * (n // p) if n % p == 0 else [*[p] * (n // p - 1), n % p, p]


def _mean_magnitudes(c: Tensor, p: int) -> Tensor:
    """[m, n] -> [m, levels]."""
    tiles = c.abs().double().split(_tiles(c.shape[1], p), dim=1)
    return torch.stack([tile.mean(1) for tile in tiles], 1).float()


def _reconstruct(bit: Tensor, levels: Tensor, p: int) -> Tensor:
    """Bool [m, n] and [m, levels] -> the values [m, n]."""
    tiles = torch.tensor(_tiles(bit.shape[1], p), device=bit.device)
    level = levels.repeat_interleave(tiles, dim=1)
    return _unrotate(torch.where(bit, level, -level), p)


def _rotate(v: Tensor, p: int) -> Tensor:
    """R of each row of [m, n]."""
    m, n = v.shape
    c, factor = v.clone(), _factor(p, v.device)
    c[:, : n // p * p] = _butterflies(c[:, : n // p * p].reshape(-1, p) * factor).view(m, -1)
    if n % p:
        c[:, n - p :] = _butterflies(c[:, n - p :] * factor)
    return c


def _unrotate(c: Tensor, p: int) -> Tensor:
    """The inverse, in the opposite order."""
    m, n = c.shape
    v, factor = c.clone(), _factor(p, c.device)
    if n % p:
        v[:, n - p :] = _butterflies(v[:, n - p :]) * factor
    v[:, : n // p * p] = (_butterflies(v[:, : n // p * p].reshape(-1, p)) * factor).view(m, -1)
    return v


def _butterflies(x: Tensor) -> Tensor:
    """H x of each row of [m, p]."""
    m, p = x.shape
    h = 1
    while h < p:
        a, b = x.reshape(m, p // (2 * h), 2, h).unbind(2)
        x = torch.stack((a + b, a - b), 2)
        h *= 2
    return x.reshape(m, p)


def _factor(p: int, device: torch.device) -> Tensor:
    """Float32 [p]: s / sqrt(p)."""
    factor: Tensor = _SIGNS[:p].to(device) * p**-0.5
    return factor


def _hash(x: int) -> int:
    """A 32-bit integer hash ("lowbias32"); float32 arithmetic could not spoil it."""
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


_SIGNS = torch.tensor([-1.0 if _hash(i + 1) >> 31 else 1.0 for i in range(ROTATED_BLOCK)])


def rotated_sum(
    levels: Sequence[Tensor], bits: Sequence[Tensor], layout: Tensor, out: Tensor
) -> None:
    """Decode several packets and add them in order; see ``schemas``."""
    for k, (of_packet, packed) in enumerate(zip(levels, bits, strict=True)):
        rotated_decode(of_packet, packed, layout, out, accumulate=k > 0)
