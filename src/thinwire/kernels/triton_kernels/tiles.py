"""What the device kernels share: tiles of values, packed codes, levels, decoding.

A program of the sign and uniform families works on a tile of ``ROWS`` groups, one in each row, in
steps of ``BLOCK`` values; both are powers of two and ``BLOCK`` is at least 32. Values are float32
in registers, [ROWS, BLOCK]. Packed codes and layouts are read and written as int32 and int64.

Kernels are compiled without contracting products and sums to fused operations, and divide with
``div_rn`` where a quotient decides bits, so that every operation rounds as the reference's does.
"""

import triton
import triton.language as tl

from thinwire.kernels.triton_kernels.operators import PACKETS

LARGEST_BLOCK = 4096  # values of a group that stay in registers
SMALLEST_BLOCK = 32
TILE = 1024  # values of a program that has several groups
VALUES_OF_A_WARP = 256

program = triton.jit(
    do_not_specialize=["groups"],
    do_not_specialize_on_alignment=[
        *("gradient", "residual", "layout", "new_residual", "levels", "packed", "out"),
        *(f"{name}_{k}" for name in ("levels", "packed") for k in range(PACKETS)),
    ],
)
"""Make a function a program that is launched: compiled once for each set of dtypes and constants.

Groups begin anywhere, so nothing is gained where memory begins at a multiple of 16 bytes.
"""


def tile(values: int, groups: int) -> dict[str, int]:
    """Return how programs are cut for this many values in this many groups.

    A group's length is known on the device only, so ``BLOCK`` follows the mean length. Of a longer
    group the first ``BLOCK`` values stay in registers, and the others are read twice.
    """
    mean = -(-values // groups)
    block = min(max(triton.next_power_of_2(mean), SMALLEST_BLOCK), LARGEST_BLOCK)
    rows = max(1, TILE // block)
    return {"ROWS": rows, "BLOCK": block, "num_warps": rows * block // VALUES_OF_A_WARP}


@triton.jit
def group_rows(layout, groups, ROWS: tl.constexpr):
    """Return this program's groups: numbers, which exist, first values, lengths, first words."""
    group = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    exists = group < groups
    start = tl.load(layout + group, mask=exists, other=0)
    stop = tl.load(layout + group + 1, mask=exists, other=0)
    word = tl.load(layout + groups + 1 + group, mask=exists, other=0)
    return group, exists, start, (stop - start).to(tl.int32), word


@triton.jit
def load_values(gradient, scale, residual, at, mask):
    """Return scale * gradient + residual at these places, 0 where masked out."""
    fresh = tl.load(gradient + at, mask=mask, other=0.0).to(tl.float32)
    return fresh * scale + tl.load(residual + at, mask=mask, other=0.0)


@triton.jit
def as_stored(level, levels):
    """Round float32 levels as the memory at ``levels`` will hold them, to even at ties."""
    if levels.dtype.element_ty == tl.bfloat16:
        bits = level.to(tl.int32, bitcast=True)
        even = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        level = tl.where(level == level, even.to(tl.float32, bitcast=True), float("nan"))
    return level


@triton.jit
def store_level(levels, at, level, mask=None):
    """Store levels that ``as_stored`` has rounded."""
    tl.store(levels + at, level.to(levels.dtype.element_ty), mask=mask)


@triton.jit
def load_level(levels, at, mask=None):
    """Return stored levels as float32."""
    return tl.load(levels + at, mask=mask).to(tl.float32)


@triton.jit
def packed_words(codes, BITS: tl.constexpr, COUNT: tl.constexpr):
    """Pack consecutive codes, low bits first: ``32 // BITS * COUNT`` of them -> int32 [COUNT]."""
    PER_WORD: tl.constexpr = 32 // BITS
    shifts = tl.arange(0, PER_WORD) * BITS
    shifted = tl.reshape(codes, [COUNT, PER_WORD]) << shifts[None, :]
    return tl.sum(shifted, 1)  # no two have a bit in common


@triton.jit
def store_codes(
    packed, word, first, length, codes, BITS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Store the codes [ROWS, BLOCK] of each group's values from ``first`` on.

    Codes behind the end of a group are 0, and words behind its last are not stored.
    """
    PER_WORD: tl.constexpr = 32 // BITS
    WORDS: tl.constexpr = BLOCK // PER_WORD
    words = tl.reshape(packed_words(codes, BITS, ROWS * WORDS), [ROWS, WORDS])
    at = first // PER_WORD + tl.arange(0, WORDS)[None, :]
    tl.store(packed + word[:, None] + at, words, mask=at * PER_WORD < length[:, None])


@triton.jit
def load_codes(packed, word, i, mask, BITS: tl.constexpr):
    """Return the codes of values ``i`` of a group whose packed values begin at this word."""
    PER_WORD: tl.constexpr = 32 // BITS
    words = tl.load(packed + word + i // PER_WORD, mask=mask, other=0)
    return (words >> (i % PER_WORD * BITS)) & ((1 << BITS) - 1)


@triton.jit
def _store_tile(
    v,
    low,
    high,
    new_residual,
    packed,
    start,
    length,
    word,
    first,
    CODES: tl.constexpr,
    VALUES: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Store the codes of values v, which begin at ``first`` of each group, and what is left."""
    i = first + tl.arange(0, BLOCK)[None, :]
    mask = i < length[:, None]
    codes = tl.where(mask, CODES(v, low[:, None], high[:, None], BITS), 0)
    left = v - VALUES(codes, low[:, None], high[:, None], BITS)
    tl.store(new_residual + start[:, None] + i, left, mask=mask)
    store_codes(packed, word, first, length, codes, BITS, ROWS, BLOCK)


@triton.jit
def encode_groups(
    gradient,
    scale,
    residual,
    layout,
    groups,
    new_residual,
    levels,
    packed,
    MEASURE: tl.constexpr,
    MERGE: tl.constexpr,
    LEVELS: tl.constexpr,
    CODES: tl.constexpr,
    VALUES: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Quantise with feedback, two levels a group.

    The first ``BLOCK`` values of a group stay in registers between its levels and its codes; what
    lies behind them is read again.

    ``MEASURE(v, mask)`` are three numbers of each row, of which levels are made, ``MERGE`` those of
    two parts of a row; ``LEVELS(*measured, length, levels, BITS)`` the two levels, rounded as they
    are stored; ``CODES(v, low, high, BITS)`` the int32 codes, ``VALUES(codes, low, high, BITS)``
    what they stand for.
    """
    group, exists, start, length, word = group_rows(layout, groups, ROWS)
    longest = tl.max(length)
    i = tl.arange(0, BLOCK)[None, :]
    mask = i < length[:, None]
    v = load_values(gradient, scale, residual, start[:, None] + i, mask)
    a, b, c = MEASURE(v, mask)
    for first in range(BLOCK, longest, BLOCK):
        mask = first + i < length[:, None]
        further = load_values(gradient, scale, residual, start[:, None] + first + i, mask)
        more_a, more_b, more_c = MEASURE(further, mask)
        a, b, c = MERGE(a, b, c, more_a, more_b, more_c)
    low, high = LEVELS(a, b, c, length, levels, BITS)
    store_level(levels, 2 * group, low, exists)
    store_level(levels, 2 * group + 1, high, exists)
    _store_tile(
        v, low, high, new_residual, packed, start, length, word, 0, CODES, VALUES, BITS, ROWS, BLOCK
    )
    for first in range(BLOCK, longest, BLOCK):
        mask = first + i < length[:, None]
        v = load_values(gradient, scale, residual, start[:, None] + first + i, mask)
        _store_tile(
            v,
            low,
            high,
            new_residual,
            packed,
            start,
            length,
            word,
            first,
            CODES,
            VALUES,
            BITS,
            ROWS,
            BLOCK,
        )


@triton.jit
def decode_groups(
    levels,
    packed,
    layout,
    groups,
    out,
    VALUES: tl.constexpr,
    COUNT: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write, or add, the values of packets in the order given.

    ``VALUES(codes, low, high, BITS)`` are those that codes stand for between two levels a group.
    """
    group, exists, start, length, word = group_rows(layout, groups, ROWS)
    for first in range(0, tl.max(length), BLOCK):
        i = first + tl.arange(0, BLOCK)[None, :]
        mask = i < length[:, None]
        at = start[:, None] + i
        total = tl.zeros([ROWS, BLOCK], tl.float32)
        if ACCUMULATE:
            total = tl.load(out + at, mask=mask, other=0.0)
        for k in tl.static_range(COUNT):
            codes = load_codes(packed[k], word[:, None], i, mask, BITS)
            low = load_level(levels[k], 2 * group, exists)
            high = load_level(levels[k], 2 * group + 1, exists)
            values = VALUES(codes, low[:, None], high[:, None], BITS)
            total = values if not ACCUMULATE and k == 0 else total + values
        tl.store(out + at, total, mask=mask)


@program
def decode_packets(
    levels_0,
    levels_1,
    levels_2,
    levels_3,
    levels_4,
    levels_5,
    levels_6,
    levels_7,
    packed_0,
    packed_1,
    packed_2,
    packed_3,
    packed_4,
    packed_5,
    packed_6,
    packed_7,
    layout,
    groups,
    out,
    DECODE: tl.constexpr,
    COUNT: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Decode the first ``COUNT`` packets, in the order given, as ``DECODE`` of a family does.

    Addresses in a tuple would have the program compiled for each way in which they are aligned.
    """
    levels = (levels_0, levels_1, levels_2, levels_3, levels_4, levels_5, levels_6, levels_7)
    packed = (packed_0, packed_1, packed_2, packed_3, packed_4, packed_5, packed_6, packed_7)
    DECODE(levels, packed, layout, groups, out, COUNT, ACCUMULATE, BITS, ROWS, BLOCK)
