"""The host's side of the device kernels: checks of a call, and its launches.

A call costs one launch; a sum one for every ``PACKETS`` packets, of which all but the first add to
what is there. The grid and the cut of a layout into programs follow from shapes alone.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from thinwire.kernels.schemas import FAMILIES, Family, check_memory, check_size

PACKETS = 8  # decoded by one launch at most; ``tiles.decode_packets`` has a place for each

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def _encoder(family: Family) -> Callable[..., None]:
    def encode(
        gradient: Tensor,
        scale: float,
        residual: Tensor,
        layout: Tensor,
        bits: int,
        new_residual: Tensor,
        levels: Tensor,
        packed: Tensor,
    ) -> None:
        sizes = family.sizes(layout, bits)
        check_size("gradient", gradient, sizes.values)
        family.check_packet(sizes, levels, packed)
        device, n = gradient.device, gradient.shape
        check_memory("gradient", gradient, device, *_FLOATS)
        check_memory("residual", residual, device, torch.float32, shape=n)
        check_memory("new_residual", new_residual, device, torch.float32, shape=n)
        check_memory("levels", levels, device)
        check_memory("layout", layout, device)
        words = _words(packed, device)
        programs, groups = _programs(family), layout.shape[1] - 1
        arguments = (gradient, scale, residual, layout, groups, new_residual, levels, words)
        _launch(programs.encode, programs.tile, arguments, gradient, groups, BITS=bits)

    return encode


def _decode(
    family: Family,
    levels: Sequence[Tensor],
    packed: Sequence[Tensor],
    layout: Tensor,
    bits: int,
    out: Tensor,
    accumulate: bool,
) -> None:
    sizes = family.sizes(layout, bits)
    check_size("out", out, sizes.values)
    check_memory("out", out, out.device, torch.float32)
    check_memory("layout", layout, out.device)
    words = []
    for of_packet, codes in zip(levels, packed, strict=True):
        family.check_packet(sizes, of_packet, codes)
        check_memory("levels", of_packet, out.device, levels[0].dtype)
        words.append(_words(codes, out.device))
    programs, groups = _programs(family), layout.shape[1] - 1
    for first in range(0, len(words), PACKETS):
        some = slice(first, first + PACKETS)
        arguments = (*_padded(levels[some]), *_padded(words[some]), layout, groups, out)
        _launch(
            programs.decode_packets,
            programs.tile,
            arguments,
            out,
            groups,
            DECODE=programs.decode,
            COUNT=len(words[some]),
            ACCUMULATE=accumulate or first > 0,
            BITS=bits,
        )


def _decoder(family: Family) -> Callable[..., None]:
    def decode(
        levels: Tensor, packed: Tensor, layout: Tensor, bits: int, out: Tensor, accumulate: bool
    ) -> None:
        _decode(family, [levels], [packed], layout, bits, out, accumulate)

    return decode


def _summer(family: Family) -> Callable[..., None]:
    def sum_(
        levels: Sequence[Tensor],
        packed: Sequence[Tensor],
        layout: Tensor,
        bits: int,
        out: Tensor,
    ) -> None:
        if not levels:
            raise ValueError("levels: expected those of at least one packet, got none")
        _decode(family, levels, packed, layout, bits, out, accumulate=False)

    return sum_


def _words(packed: Tensor, device: torch.device) -> Tensor:
    """Packed values as int32 words, which is how the device reads them."""
    check_memory("packed", packed, device, torch.uint8)
    if packed.data_ptr() % 4:
        raise ValueError("packed: expected memory that begins at a multiple of 4 bytes")
    return packed.view(torch.int32)


def _padded(packets: Sequence[Tensor]) -> list[Tensor]:
    """As many as a launch takes; what follows the packets is not read."""
    return [*packets, *[packets[0]] * (PACKETS - len(packets))]


def _programs(family: Family) -> Any:
    """The module of the family's programs; the first call imports triton."""
    return import_module(f"{__package__}.{family.name}")


def _launch(
    program: Any,
    cut: Callable[[int, int], dict[str, int]],
    arguments: tuple[Any, ...],
    values: Tensor,
    groups: int,
    **constants: Any,
) -> None:
    """Run one program for every ``ROWS`` groups, on the device of the values."""
    if not groups:
        return
    tile = cut(len(values), groups)
    grid = (-(-groups // tile["ROWS"]),)
    with torch.cuda.device_of(values):
        program[grid](*arguments, **constants, **tile, enable_fp_fusion=False)


KERNELS: dict[str, Callable[..., None]] = {
    f"{name}_{what}": wrapper(family)
    for name, family in FAMILIES.items()
    for what, wrapper in (("encode", _encoder), ("decode", _decoder), ("sum", _summer))
}
