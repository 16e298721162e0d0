"""The 1-bit code (S section 3): signs, and the mean of either side as the two levels of a group."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.kernels.reference.groups import group_of, pack, sum_by_group, unpack
from thinwire.kernels.schemas import check_layout


def sign_encode(
    gradient: Tensor,
    scale: float,
    residual: Tensor,
    layout: Tensor,
    new_residual: Tensor,
    levels: Tensor,
    bits: Tensor,
) -> None:
    """Quantise one bucket to signs and two levels a group; see ``schemas``.

    Source: S section 3: G_quant(t) = Q(G(t) + Delta(t - N)), Delta(t) = v - Q^-1(G_quant(t)).
    """
    check_layout(layout, gradient, levels, bits)
    group = group_of(layout)
    v = gradient.float() * scale + residual
    bit = v >= 0
    for side, members in enumerate((~bit, bit)):
        total = sum_by_group(torch.where(members, v, 0.0).double(), layout)
        count = sum_by_group(members.double(), layout)
        mean = torch.where(count > 0, total / count.clamp(min=1), 0.0)
        levels[:, side] = mean.float().to(levels.dtype)
    new_residual.copy_(v - levels.float()[group, bit.long()])
    bits.copy_(pack(bit, layout))


def sign_decode(
    levels: Tensor, bits: Tensor, layout: Tensor, out: Tensor, accumulate: bool
) -> None:
    """Turn signs and levels back into values; see ``schemas``."""
    check_layout(layout, out, levels, bits)
    value = levels.float()[group_of(layout), unpack(bits, layout)]
    if accumulate:
        out.add_(value)
    else:
        out.copy_(value)


def sign_sum(levels: Sequence[Tensor], bits: Sequence[Tensor], layout: Tensor, out: Tensor) -> None:
    """Decode several packets and add them in order; see ``schemas``."""
    for k, (of_packet, packed) in enumerate(zip(levels, bits, strict=True)):
        sign_decode(of_packet, packed, layout, out, accumulate=k > 0)
