"""The uniform family on the device; ``kernels.reference.uniform`` defines it."""

import triton
import triton.language as tl

from thinwire.kernels.triton_kernels.tiles import (
    decode_groups,
    decode_packets,
    encode_groups,
    program,
    tile,
)

_LARGEST = tl.constexpr(3.4028234663852886e38)
_LARGEST_BFLOAT16 = tl.constexpr(3.3895313892515355e38)
_SMALLEST_NORMAL = tl.constexpr(1.1754943508222875e-38)
_NO_FRACTION = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer, ties to even


@triton.jit
def _extremes(v, mask):
    """Return each row's smallest and largest finite value, and whether all are finite (0 or 1)."""
    finite = tl.abs(v) <= _LARGEST
    low = tl.min(tl.where(mask & finite, v, _LARGEST), 1)
    high = tl.max(tl.where(mask & finite, v, -_LARGEST), 1)
    return low, high, tl.min(tl.where(mask, finite.to(tl.int32), 1), 1)


@triton.jit
def _merged(low, high, finite, more_low, more_high, more_finite):
    return tl.minimum(low, more_low), tl.maximum(high, more_high), tl.minimum(finite, more_finite)


@triton.jit
def _rounded_up(x):
    """Return the least bfloat16 that is not below x, or the largest finite one, as float32."""
    bits = x.to(tl.int32, bitcast=True)
    away = (x > 0) & ((bits & 0xFFFF) != 0)
    above = ((bits + tl.where(away, 0x10000, 0)) & -0x10000).to(tl.float32, bitcast=True)
    return tl.minimum(tl.maximum(above, -_LARGEST_BFLOAT16), _LARGEST_BFLOAT16)


@triton.jit
def _level(rounded, finite, length):
    """Return 0 for -0 and for an empty group, NaN where a value is not finite."""
    level = tl.where(finite > 0, rounded, float("nan"))
    return tl.where((length == 0) | (level == 0), 0.0, level)


@triton.jit
def _levels(low, high, finite, length, levels, BITS: tl.constexpr):
    low, high = -_rounded_up(-low), _rounded_up(high)
    return _level(low, finite, length), _level(high, finite, length)


@triton.jit
def _step(low, high, BITS: tl.constexpr):
    TOP: tl.constexpr = (1 << BITS) - 1
    top = tl.full(low.shape, TOP, tl.float32)
    step = tl.div_rn(high, top) - tl.div_rn(low, top)
    return tl.where(step < _SMALLEST_NORMAL, 0.0, step)


@triton.jit
def _codes(v, low, high, BITS: tl.constexpr):
    step = _step(low, high, BITS)
    one = tl.full(step.shape, 1.0, tl.float32)
    inverse = tl.where(step > 0, tl.div_rn(one, tl.where(step > 0, step, 1.0)), 0.0)
    x = v * inverse - low * inverse
    x = tl.minimum(tl.where(x > 0, x, 0.0), (1 << BITS) - 1.0)  # 0 also where x is NaN
    return ((x + _NO_FRACTION) - _NO_FRACTION).to(tl.int32)


@triton.jit
def _values(codes, low, high, BITS: tl.constexpr):
    half = codes.to(tl.float32) * (0.5 * _step(low, high, BITS)) + 0.5 * low
    return half + half


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
        _extremes,
        _merged,
        _levels,
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
