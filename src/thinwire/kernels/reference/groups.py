"""What the reference kernels share: groups of values, and values packed into whole words."""

import torch
from torch import Tensor


def group_of(layout: Tensor) -> Tensor:
    """int64 [n]: the group of each value."""
    groups = torch.arange(layout.shape[1] - 1, device=layout.device)
    return torch.repeat_interleave(groups, layout[0].diff())


def sum_by_group(values: Tensor, layout: Tensor) -> Tensor:
    """[n] -> [G]; summed in order of position, hence deterministic."""
    if values.numel() == 0:
        return values.new_zeros(layout.shape[1] - 1)
    return torch.segment_reduce(values, "sum", lengths=layout[0].diff())


def pack(values: Tensor, layout: Tensor, bits: int = 1) -> Tensor:
    """Integers below 2^bits, [n] -> uint8 [4 * words], lowest bits first."""
    unpacked = values.new_zeros(32 // bits * int(layout[1, -1]), dtype=torch.uint8)
    unpacked[_wire_position(layout, bits)] = values.to(torch.uint8)
    shifted = unpacked.view(-1, 8 // bits) << _shifts(bits, values.device)
    packed: Tensor = shifted.sum(1, dtype=torch.uint8)
    return packed


def unpack(packed: Tensor, layout: Tensor, bits: int = 1) -> Tensor:
    """Uint8 [4 * words] -> int64 [n]."""
    unpacked = (packed[:, None] >> _shifts(bits, packed.device)) & (2**bits - 1)
    values: Tensor = unpacked.view(-1)[_wire_position(layout, bits)].long()
    return values


def _shifts(bits: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.uint8, device=device)


def _wire_position(layout: Tensor, bits: int) -> Tensor:
    """int64 [n]: the place of each value, counted from the start of the packed values."""
    group = group_of(layout)
    within = torch.arange(len(group), device=layout.device) - layout[0][group]
    return 32 // bits * layout[1][group] + within
