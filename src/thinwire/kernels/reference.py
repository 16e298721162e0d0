"""The definition of every kernel in plain torch: the oracle, and the fallback on any device."""

from collections.abc import Callable

import torch
from torch import Tensor

from thinwire.kernels.schemas import check_layout

_BIT = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)


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
    group = _group_of(layout)
    v = gradient.float() * scale + residual
    bit = v >= 0
    for side, members in enumerate((~bit, bit)):
        total = _sum_by_group(torch.where(members, v, 0.0).double(), layout)
        count = _sum_by_group(members.double(), layout)
        mean = torch.where(count > 0, total / count.clamp(min=1), 0.0)
        levels[:, side] = mean.float().to(levels.dtype)
    new_residual.copy_(v - levels.float()[group, bit.long()])
    bits.copy_(_pack(bit, layout))


def sign_decode(
    levels: Tensor, bits: Tensor, layout: Tensor, out: Tensor, accumulate: bool
) -> None:
    """Turn signs and levels back into values; see ``schemas``."""
    check_layout(layout, out, levels, bits)
    value = levels.float()[_group_of(layout), _unpack(bits, layout).long()]
    if accumulate:
        out.add_(value)
    else:
        out.copy_(value)


KERNELS: dict[str, Callable[..., None]] = {"sign_encode": sign_encode, "sign_decode": sign_decode}


def _group_of(layout: Tensor) -> Tensor:
    """int64 [n]: the group of each value."""
    groups = torch.arange(layout.shape[1] - 1, device=layout.device)
    return torch.repeat_interleave(groups, layout[0].diff())


def _sum_by_group(values: Tensor, layout: Tensor) -> Tensor:
    """[n] -> [G]; summed in order of position, hence deterministic."""
    if values.numel() == 0:
        return values.new_zeros(layout.shape[1] - 1)
    return torch.segment_reduce(values, "sum", lengths=layout[0].diff())


def _wire_position(layout: Tensor) -> Tensor:
    """int64 [n]: the bit of each value, counted from the start of the packed bits."""
    group = _group_of(layout)
    within = torch.arange(len(group), device=layout.device) - layout[0][group]
    return 32 * layout[1][group] + within


def _pack(bit: Tensor, layout: Tensor) -> Tensor:
    """Bool [n] -> uint8 [4 * words]."""
    unpacked = bit.new_zeros(32 * int(layout[1, -1]), dtype=torch.uint8)
    unpacked[_wire_position(layout)] = bit.to(torch.uint8)
    return (unpacked.view(-1, 8) * _BIT.to(bit.device)).sum(1, dtype=torch.uint8)


def _unpack(bits: Tensor, layout: Tensor) -> Tensor:
    """Uint8 [4 * words] -> bool [n]."""
    unpacked = (bits[:, None] & _BIT.to(bits.device)) != 0
    return unpacked.view(-1)[_wire_position(layout)]
