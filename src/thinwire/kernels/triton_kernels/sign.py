"""The sign family on the device; ``kernels.reference.sign`` defines it."""

import triton
import triton.language as tl

from thinwire.kernels.triton_kernels.tiles import (
    as_stored,
    decode_groups,
    decode_packets,
    encode_groups,
    program,
    tile,
)


@triton.jit
def _side_sums(v, mask):
    """Return the sum of each row's values below 0, that of the others, and how many these are."""
    bit = v >= 0
    low = tl.sum(tl.where(mask & (bit == 0), v, 0.0), 1)
    high = tl.sum(tl.where(mask & bit, v, 0.0), 1)
    return low.to(tl.float64), high.to(tl.float64), tl.sum((mask & bit).to(tl.int32), 1)


@triton.jit
def _merged(low, high, count, more_low, more_high, more_count):
    return low + more_low, high + more_high, count + more_count


@triton.jit
def _mean(total, count, levels):
    return as_stored((total / tl.maximum(count, 1).to(tl.float64)).to(tl.float32), levels)


@triton.jit
def _means(low, high, count, length, levels, BITS: tl.constexpr):
    return _mean(low, length - count, levels), _mean(high, count, levels)


@triton.jit
def _codes(v, low, high, BITS: tl.constexpr):
    return (v >= 0).to(tl.int32)


@triton.jit
def _values(codes, low, high, BITS: tl.constexpr):
    return tl.where(codes > 0, high, low)


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
    encode_groups(
        gradient,
        scale,
        residual,
        layout,
        groups,
        new_residual,
        levels,
        packed,
        _side_sums,
        _merged,
        _means,
        _codes,
        _values,
        BITS,
        ROWS,
        BLOCK,
    )


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
    decode_groups(
        levels, packed, layout, groups, out, _values, COUNT, ACCUMULATE, BITS, ROWS, BLOCK
    )


__all__ = ["decode", "decode_packets", "encode", "tile"]
