"""The three operators of a family, made of the two functions that define it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from thinwire.kernels.reference.groups import pack, unpack
from thinwire.kernels.schemas import Family, check_size


@dataclass(frozen=True)
class Definition:
    """What a family's codes and levels mean.

    Attributes:
        quantise: (values float32 [n], layout, bits, levels!) -> codes [n], integers below 2^bits.
            It writes the levels.
        reconstruct: (codes [n], layout, bits, levels) -> the values they stand for, float32 [n].
    """

    quantise: Callable[[Tensor, Tensor, int, Tensor], Tensor]
    reconstruct: Callable[[Tensor, Tensor, int, Tensor], Tensor]


def operators(family: Family, definition: Definition) -> dict[str, Callable[..., None]]:
    """Return the family's encode, decode and sum by name, as ``schemas`` describes them."""

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
        v = gradient.float() * scale + residual
        codes = definition.quantise(v, layout, bits, levels)
        new_residual.copy_(v - definition.reconstruct(codes, layout, bits, levels))
        pack(codes, layout, bits, packed)

    def decode(
        levels: Tensor, packed: Tensor, layout: Tensor, bits: int, out: Tensor, accumulate: bool
    ) -> None:
        sizes = family.sizes(layout, bits)
        check_size("out", out, sizes.values)
        family.check_packet(sizes, levels, packed)
        codes = unpack(packed, layout, bits, len(out))
        values = definition.reconstruct(codes, layout, bits, levels)
        if accumulate:
            out.add_(values)
        else:
            out.copy_(values)

    def sum_(
        levels: Sequence[Tensor],
        packed: Sequence[Tensor],
        layout: Tensor,
        bits: int,
        out: Tensor,
    ) -> None:
        for k, (of_packet, codes) in enumerate(zip(levels, packed, strict=True)):
            decode(of_packet, codes, layout, bits, out, accumulate=k > 0)

    made: dict[str, Callable[..., None]] = {"encode": encode, "decode": decode, "sum": sum_}
    return {f"{family.name}_{what}": operator for what, operator in made.items()}
