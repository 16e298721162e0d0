"""The uniform code of b bits: 2^b evenly spaced levels between a group's extremes.

lo, hi = the smallest and largest v of the group, rounded outward to bfloat16;
step = hi / (2^b - 1) - lo / (2^b - 1); q = round(v / step - lo / step);
decoded = lo + q step = 2 (q (step / 2) + lo / 2).

So no difference of two values is formed: it could overflow. A step below the smallest normal number
(also: all values equal) counts as 0, and then every value is decoded as lo. Beyond the largest
bfloat16, 0.4 % short of float32's, levels stay there and the residual takes the rest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.kernels.reference.groups import group_of, pack, sum_by_group, unpack
from thinwire.kernels.schemas import check_layout, check_uniform

_FLOAT, _BFLOAT16 = torch.finfo(torch.float32), torch.finfo(torch.bfloat16)


def uniform_encode(
    gradient: Tensor,
    scale: float,
    residual: Tensor,
    layout: Tensor,
    bits: int,
    new_residual: Tensor,
    levels: Tensor,
    packed: Tensor,
) -> None:
    """Quantise one bucket to ``bits`` bits a value between a group's extremes; see ``schemas``."""
    check_uniform(levels, bits)
    check_layout(layout, gradient, levels, packed)
    group = group_of(layout)
    v = gradient.float() * scale + residual
    levels.copy_(_extremes(v, layout))
    low, step = _grid(levels, bits)
    inverse = torch.where(step > 0, 1 / step, 0.0)
    x = v * inverse[group] - (low * inverse)[group]
    x = torch.where(x > 0, x, 0.0)  # also where x is NaN
    q = x.clamp(max=2**bits - 1).round()
    new_residual.copy_(v - _decoded(q, low[group], step[group]))
    packed.copy_(pack(q, layout, bits))


def uniform_decode(
    levels: Tensor, packed: Tensor, layout: Tensor, bits: int, out: Tensor, accumulate: bool
) -> None:
    """Turn ``bits`` bits a value and a group's extremes back into values; see ``schemas``."""
    check_uniform(levels, bits)
    check_layout(layout, out, levels, packed)
    group = group_of(layout)
    low, step = _grid(levels, bits)
    value = _decoded(unpack(packed, layout, bits).float(), low[group], step[group])
    if accumulate:
        out.add_(value)
    else:
        out.copy_(value)


def _extremes(v: Tensor, layout: Tensor) -> Tensor:
    """Bfloat16 [G, 2]: the smallest and largest v, rounded outward; NaN if any is not finite."""
    lengths = layout[0].diff()
    if v.numel() == 0:
        return v.new_zeros(len(lengths), 2, dtype=torch.bfloat16)
    low = -_rounded_up(-torch.segment_reduce(v, "min", lengths=lengths))
    high = _rounded_up(torch.segment_reduce(v, "max", lengths=lengths))
    bad = sum_by_group((~v.isfinite()).double(), layout) > 0
    both = torch.stack((low, high), 1)
    both = torch.where(bad[:, None], torch.nan, both) + 0.0  # no -0
    return torch.where(lengths[:, None] > 0, both, 0.0).bfloat16()


def _rounded_up(x: Tensor) -> Tensor:
    """The least bfloat16 that is not below x (as float32), or the largest finite one."""
    nearest = x.bfloat16()
    above = torch.nextafter(nearest, torch.full_like(nearest, torch.inf)).float()
    return torch.where(nearest.float() < x, above, nearest.float()).clamp(
        _BFLOAT16.min, _BFLOAT16.max
    )


def _grid(levels: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Float32 [G] each: the lowest level and the step."""
    low, high = levels.float().unbind(1)
    step = high / (2**bits - 1) - low / (2**bits - 1)
    return low, torch.where(step < _FLOAT.tiny, 0.0, step)


def _decoded(q: Tensor, low: Tensor, step: Tensor) -> Tensor:
    half = q * (0.5 * step) + 0.5 * low
    return half + half


def uniform_sum(
    levels: Sequence[Tensor], packed: Sequence[Tensor], layout: Tensor, bits: int, out: Tensor
) -> None:
    """Decode several packets and add them in order; see ``schemas``."""
    for k, (of_packet, codes) in enumerate(zip(levels, packed, strict=True)):
        uniform_decode(of_packet, codes, layout, bits, out, accumulate=k > 0)
