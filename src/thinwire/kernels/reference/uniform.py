"""The uniform code of b bits: 2^b evenly spaced levels between a group's extremes.

lo, hi = the smallest and largest v of the group, rounded outward to bfloat16;
step = hi / (2^b - 1) - lo / (2^b - 1); q = round(v / step - lo / step);
decoded = lo + q step = 2 (q (step / 2) + lo / 2).

So no difference of two values is formed: it could overflow. A step below the smallest normal number
(also: all values equal) counts as 0, and then every value is decoded as lo. Beyond the largest
bfloat16, 0.4 % short of float32's, levels stay there and the residual takes the rest.
"""

import torch
from torch import Tensor

from thinwire.kernels.reference.groups import group_of, reduce_runs

_FLOAT, _BFLOAT16 = torch.finfo(torch.float32), torch.finfo(torch.bfloat16)


def quantise(v: Tensor, layout: Tensor, bits: int, levels: Tensor) -> Tensor:
    """Write the extremes [G, 2] of values [n]; return their places on the grid, float32 [n]."""
    levels.copy_(_extremes(v, layout[0].diff()))
    low, step = _grid(levels, bits)
    inverse = torch.where(step > 0, 1 / step, 0.0)
    group = group_of(layout, len(v))
    x = v * inverse.index_select(0, group) - (low * inverse).index_select(0, group)
    x = torch.where(x > 0, x, 0.0)  # also where x is NaN
    return x.clamp(max=2**bits - 1).round()


def reconstruct(q: Tensor, layout: Tensor, bits: int, levels: Tensor) -> Tensor:
    """Return the values at places q [n] of the groups' grids, float32 [n]."""
    group = group_of(layout, len(q))
    low, step = (of_group.index_select(0, group) for of_group in _grid(levels, bits))
    half = q.float() * (0.5 * step) + 0.5 * low
    return half + half


def _extremes(v: Tensor, lengths: Tensor) -> Tensor:
    """Float32 [G, 2]: the smallest and largest v, rounded outward; NaN if any is not finite."""
    low = -_rounded_up(-reduce_runs(v, lengths, "min"))
    high = _rounded_up(reduce_runs(v, lengths, "max"))
    bad = reduce_runs((~v.isfinite()).double(), lengths) > 0
    both = torch.stack((low, high), 1)
    both = torch.where(bad[:, None], torch.nan, both) + 0.0  # no -0
    return torch.where(lengths[:, None] > 0, both, 0.0)


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
