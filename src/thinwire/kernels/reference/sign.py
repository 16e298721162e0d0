"""The 1-bit code (S section 3): signs, and the mean of either side as the two levels of a group."""

import torch
from torch import Tensor

from thinwire.kernels.reference.groups import group_of, reduce_runs


def quantise(v: Tensor, layout: Tensor, bits: int, levels: Tensor) -> Tensor:
    """Write the levels [G, 2] of values [n]; return their signs, bool [n]."""
    lengths, bit = layout[0].diff(), v >= 0
    means = []
    for members in (~bit, bit):
        total = reduce_runs(torch.where(members, v, 0.0).double(), lengths)
        count = reduce_runs(members.double(), lengths)
        means.append(torch.where(count > 0, total / count.clamp(min=1), 0.0))
    levels.copy_(torch.stack(means, 1).float())
    return bit


def reconstruct(bit: Tensor, layout: Tensor, bits: int, levels: Tensor) -> Tensor:
    """Return the level of each value, float32 [n]."""
    at = 2 * group_of(layout, len(bit)) + bit
    return levels.float().view(-1).index_select(0, at)
