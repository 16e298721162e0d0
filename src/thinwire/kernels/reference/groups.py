"""What the reference kernels share: groups of values, and values packed into whole words.

Nothing here reads a tensor back to the host: sizes come from the shapes of the arguments, so that
the reference runs on a device without making the host wait for it.
"""

import torch
from torch import Tensor


def group_of(layout: Tensor, n: int) -> Tensor:
    """Return the group of each of the ``n`` values, int64 [n]."""
    groups = torch.arange(layout.shape[1] - 1, dtype=torch.int64, device=layout.device)
    return torch.repeat_interleave(groups, layout[0].diff(), output_size=n)


def reduce_runs(values: Tensor, lengths: Tensor, reduction: str = "sum") -> Tensor:
    """Reduce consecutive runs of values: [n] and [G] -> [G].

    Each run is taken in the order of its values, hence the result is deterministic.
    """
    if values.numel() == 0:
        return values.new_zeros(len(lengths))
    reduced: Tensor = torch.segment_reduce(values, reduction, lengths=lengths, unsafe=True)
    return reduced


def pack(codes: Tensor, layout: Tensor, bits: int, packed: Tensor) -> None:
    """Write integers below 2^bits, [n], to uint8 [4 * words], lowest bits first."""
    unpacked = codes.new_zeros(8 // bits * len(packed), dtype=torch.uint8)
    unpacked.index_copy_(0, _wire_position(layout, len(codes), bits), codes.to(torch.uint8))
    shifted = unpacked.view(-1, 8 // bits) << _shifts(bits, codes.device)
    packed.copy_(shifted.sum(1, dtype=torch.uint8))


def unpack(packed: Tensor, layout: Tensor, bits: int, n: int) -> Tensor:
    """Return the integers below 2^bits that ``pack`` wrote: uint8 [4 * words] -> int64 [n]."""
    unpacked = (packed[:, None] >> _shifts(bits, packed.device)) & (2**bits - 1)
    codes: Tensor = unpacked.view(-1).index_select(0, _wire_position(layout, n, bits))
    return codes.long()


def _shifts(bits: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.uint8, device=device)


def _wire_position(layout: Tensor, n: int, bits: int) -> Tensor:
    """int64 [n]: the place of each value, counted from the start of the packed values."""
    group = group_of(layout, n)
    within = torch.arange(n, dtype=torch.int64, device=layout.device) - layout[0].index_select(
        0, group
    )
    return 32 // bits * layout[1].index_select(0, group) + within
