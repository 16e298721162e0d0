"""The rotated family on the device; ``kernels.reference.rotated`` defines it.

A program has one group and goes through its pieces, which do not depend on each other. A piece is
one block of p values; where p does not divide the group's length, the last is p + rest values under
two blocks that overlap, the first and the last p of them.
"""

import triton
import triton.language as tl

from thinwire.kernels.schemas import ROTATED_BLOCK
from thinwire.kernels.triton_kernels.tiles import (
    as_stored,
    decode_packets,
    load_codes,
    load_level,
    load_values,
    packed_words,
    program,
    store_level,
)

_BLOCK = tl.constexpr(ROTATED_BLOCK)
_STAGES = tl.constexpr(ROTATED_BLOCK.bit_length() - 1)


def tile(values: int, groups: int) -> dict[str, int]:
    """Return how programs are cut: one for each group, whatever its length."""
    return {"ROWS": 1, "BLOCK": ROTATED_BLOCK, "num_warps": 4}


@triton.jit
def _group(layout, groups):
    """Return what this program needs to know of its group.

    Returns:
        The first value, word and level; the number of pieces of one block; p, 1 / sqrt(p) and the
        rest, length mod p.
    """
    at = layout + tl.program_id(0)
    start = tl.load(at)
    length = (tl.load(at + 1) - start).to(tl.int32)
    word, level = tl.load(at + groups + 1), tl.load(at + 2 * (groups + 1))
    size, norm = _block_of(length)
    rest = length % size
    whole = tl.where(length > 0, length // size - tl.minimum(rest, 1), 0)
    return start, word, level, whole, size, norm, rest


@triton.jit
def _block_of(length):
    """Return p and 1 / sqrt(p) of a group."""
    size = tl.minimum(length, 0) + 1
    norm = 1.0
    for k in tl.static_range(1, _STAGES + 1):
        fits = length >= (1 << k)
        size = tl.where(fits, 1 << k, size)
        norm = tl.where(fits, (1 << k) ** -0.5, norm)
    return size, norm


@triton.jit
def _factors(i, norm):
    """Return s / sqrt(p) at places i of a block; s is a hash of the place."""
    x = (i + 1).to(tl.uint32)
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    x = x ^ (x >> 16)
    return tl.where((x >> 31) > 0, -norm, norm)


@triton.jit
def _crossed(x, HALF: tl.constexpr, SIZE: tl.constexpr):
    """Replace a and b, values HALF apart, by a + b and a - b.

    The other value of a pair is what the pair's sum leaves of it. Sums of integers are exact, even
    where they wrap, so the sum is that of the values' bits.
    """
    pairs = tl.reshape(x.to(tl.int32, bitcast=True), [SIZE // (2 * HALF), 2, HALF])
    others = tl.sum(pairs, 1, keep_dims=True) - pairs
    other = tl.reshape(others, [SIZE]).to(tl.float32, bitcast=True)
    return tl.where((tl.arange(0, SIZE) & HALF) > 0, other - x, x + other)


@triton.jit
def _butterflies(x, size, SIZE: tl.constexpr):
    """Return H x of each ``size`` of the SIZE values, at distances 1, 2, 4 ... in this order."""
    for k in tl.static_range(_STAGES):
        x = tl.where(size > 1 << k, _crossed(x, 1 << k, SIZE), x)
    return x


@triton.jit
def _shifted(x, by, SIZE: tl.constexpr):
    """Return x[(i + by) mod SIZE] at every i."""
    return tl.gather(x, (tl.arange(0, SIZE) + by) & (SIZE - 1), 0)


@triton.jit
def _rotated(v, size, norm, rest, SIZE: tl.constexpr):
    """Return c = R v of a piece: of its first ``size`` values, then of its last."""
    i = tl.arange(0, SIZE)
    factors = _factors(i, norm)
    c = tl.where(i < size, _butterflies(v * factors, size, SIZE), v)
    if SIZE > _BLOCK:
        end = _butterflies(_shifted(c, rest, SIZE) * factors, size, SIZE)
        c = tl.where(_in_end(i, size, rest), _shifted(end, -rest, SIZE), c)
    return c


@triton.jit
def _unrotated(c, size, norm, rest, SIZE: tl.constexpr):
    """Return the inverse of ``_rotated``."""
    i = tl.arange(0, SIZE)
    factors = _factors(i, norm)
    if SIZE > _BLOCK:
        end = _butterflies(_shifted(c, rest, SIZE), size, SIZE) * factors
        c = tl.where(_in_end(i, size, rest), _shifted(end, -rest, SIZE), c)
    return tl.where(i < size, _butterflies(c, size, SIZE) * factors, c)


@triton.jit
def _in_end(i, size, rest):
    """Return whether places lie in a piece's second block."""
    return (i >= rest) & (i < size + rest)


@triton.jit
def _mean_magnitude(c, mask, count, levels):
    """Return the mean magnitude of ``count`` values, rounded as it is stored."""
    total = tl.sum(tl.where(mask, tl.abs(c), 0.0), 0).to(tl.float64)
    return as_stored((total / count.to(tl.float64)).to(tl.float32), levels)


@triton.jit
def _decoded(bit, first, last, size, norm, rest, SIZE: tl.constexpr):
    """Return the values of a piece from the signs and levels of its rotation."""
    level = tl.where(tl.arange(0, SIZE) < rest, first, last)
    return _unrotated(tl.where(bit, level, -level), size, norm, rest, SIZE)


@triton.jit
def _encode_piece(
    gradient,
    scale,
    residual,
    new_residual,
    levels,
    packed,
    size,
    norm,
    rest,
    SIZE: tl.constexpr,
):
    """Encode the piece at whose first value, level and word the addresses point."""
    i = tl.arange(0, SIZE)
    mask = i < size + rest
    v = load_values(gradient, scale, residual, i, mask)
    c = _rotated(v, size, norm, rest, SIZE)
    last = _mean_magnitude(c, mask & (i >= rest), size, levels)
    first = last
    if SIZE > _BLOCK:
        first = _mean_magnitude(c, i < rest, rest, levels)
        store_level(levels, 0, first)
    store_level(levels, tl.minimum(rest, 1), last)
    bit = mask & (c >= 0)
    decoded = _decoded(bit, first, last, size, norm, rest, SIZE)
    tl.store(new_residual + i, v - decoded, mask=mask)
    WORDS: tl.constexpr = SIZE // 32
    word = tl.arange(0, WORDS)
    tl.store(packed + word, packed_words(bit.to(tl.int32), 1, WORDS), mask=word * 32 < size + rest)


@program
def encode(
    gradient,
    scale,
    residual,
    layout,
    groups,
    new_residual,
    levels,
    packed,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Quantise with feedback."""
    start, word, level, whole, size, norm, rest = _group(layout, groups)
    for k in range(whole + 1):
        at, to = start + k * _BLOCK, packed + word + k * (_BLOCK // 32)
        if k < whole:
            _encode_piece(
                gradient + at,
                scale,
                residual + at,
                new_residual + at,
                levels + level + k,
                to,
                size,
                norm,
                0,
                _BLOCK,
            )
        elif rest > 0:
            _encode_piece(
                gradient + at,
                scale,
                residual + at,
                new_residual + at,
                levels + level + k,
                to,
                size,
                norm,
                rest,
                2 * _BLOCK,
            )


@triton.jit
def _chosen(addresses, k, COUNT: tl.constexpr):
    """Return one of the addresses, by a number known on the device only."""
    address = addresses[0]
    for j in tl.static_range(1, COUNT):
        address = tl.where(k == j, addresses[j], address)
    return address


@triton.jit
def _decode_piece(
    levels,
    packed,
    level,
    word,
    out,
    size,
    norm,
    rest,
    COUNT: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Decode the piece that begins at this level and word of every packet."""
    i = tl.arange(0, SIZE)
    mask = i < size + rest
    total = tl.zeros([SIZE], tl.float32)
    if ACCUMULATE:
        total = tl.load(out + i, mask=mask, other=0.0)
    for k in range(COUNT):  # not unrolled: a transform is much code
        levels_of, packed_of = _chosen(levels, k, COUNT), _chosen(packed, k, COUNT)
        first = load_level(levels_of, level)
        last = load_level(levels_of, level + tl.minimum(rest, 1))
        bit = load_codes(packed_of, word, i, mask, 1) > 0
        values = _decoded(bit, first, last, size, norm, rest, SIZE)
        total = total + values if ACCUMULATE else tl.where(k == 0, values, total + values)
    tl.store(out + i, total, mask=mask)


@triton.jit
def decode(
    levels,
    packed,
    layout,
    groups,
    out,
    COUNT: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Decode the first ``COUNT`` packets, in the order given."""
    start, word, level, whole, size, norm, rest = _group(layout, groups)
    for k in range(whole + 1):
        at, first, own = out + start + k * _BLOCK, word + k * (_BLOCK // 32), level + k
        if k < whole:
            _decode_piece(levels, packed, own, first, at, size, norm, 0, COUNT, ACCUMULATE, _BLOCK)
        elif rest > 0:
            _decode_piece(
                levels, packed, own, first, at, size, norm, rest, COUNT, ACCUMULATE, 2 * _BLOCK
            )


__all__ = ["decode", "decode_packets", "encode", "tile"]
