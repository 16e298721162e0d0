"""The contract of the kernels: families of operators, their schemas, and the checks of a call.

A *bucket* is one flat tensor of ``n`` values cut into ``G`` groups of consecutive values; the
values of a group share reconstruction levels (S section 3). A value is sent as ``bits`` bits. A
*family* of kernels is three operators with the same arguments in every family:

``NAME_encode(gradient, scale, residual, layout, bits, new_residual!, levels!, packed!)``
    Quantise ``v = scale * gradient + residual`` to ``levels`` and ``packed``, and leave
    ``new_residual = v - decoded``, with the levels as they are stored. ``gradient`` may be float32,
    bfloat16 or float16; arithmetic is float32. ``new_residual`` may be the same memory as
    ``gradient`` or ``residual``.

``NAME_decode(levels, packed, layout, bits, out!, accumulate)``
    ``out = decoded``, or ``out += decoded``.

``NAME_sum(levels, packed, layout, bits, out!)``
    What K packets of the same layout decode to, added in the order given: ``levels`` and ``packed``
    are lists. The same to the bit as ``NAME_decode`` called for one after another.

``layout`` is int64 ``[rows, G + 1]`` and lies on the values' device. Row 0 holds the offsets of the
groups' values, row 1 those of their packed values in 32-bit words for ``bits`` bits a value. All
rows start at 0, so ``layout[0, -1] == n`` and ``packed`` has ``4 * layout[1, -1]`` bytes. Value
``i`` of a group begins at its bit ``i * bits``, low bits first; unused bits of a group's last word
are 0. ``levels`` is ``[G, 2]``, or 1-d where a third row holds the offsets of the groups' levels.

``sign``
    The bit of a value is ``v >= 0`` (NaN: 0). ``levels[g, b]`` is the mean of ``v`` over the values
    of group ``g`` whose bit is ``b`` (0 where there are none), which has the least squared error
    for threshold 0. A group holds a non-finite value if and only if one of its levels is non-finite
    (or the sums overflow float32).

``rotated``
    Bits and levels are those of rotated blocks (``reference.rotated``). Group ``g`` has
    ``ceil(length / largest_block(length))`` levels.

``uniform``
    2, 4 or 8 bits a value. The levels of a group are its smallest and largest ``v``, rounded
    outward to bfloat16, both NaN if and only if the group holds a non-finite value
    (``reference.uniform``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

SCHEMAS = {
    "encode": (
        "(Tensor gradient, float scale, Tensor residual, Tensor layout, int bits,"
        " Tensor(a!) new_residual, Tensor(b!) levels, Tensor(c!) packed) -> ()"
    ),
    "decode": (
        "(Tensor levels, Tensor packed, Tensor layout, int bits, Tensor(a!) out, bool accumulate)"
        " -> ()"
    ),
    "sum": "(Tensor[] levels, Tensor[] packed, Tensor layout, int bits, Tensor(a!) out) -> ()",
}
ROTATED_BLOCK = 512  # values in the largest block of the rotated family

Kernels = Mapping[str, Callable[..., None]]


@dataclass(frozen=True)
class Family:
    """One row of the table of kernels.

    Attributes:
        name: the operators are ``NAME_encode``, ``NAME_decode`` and ``NAME_sum``.
        widths: the numbers of bits a value that it has.
        level_types: the dtypes that levels may have.
        layout_rows: 2, or 3 where the layout also says where each group's levels begin.
    """

    name: str
    widths: tuple[int, ...]
    level_types: tuple[torch.dtype, ...]
    layout_rows: int = 2

    def sizes(self, layout: Tensor, bits: int) -> "Sizes":
        """Return the sizes that a layout gives the other tensors of a call.

        The layout's last column is read only where it lies in host memory. Reading a device's
        would make the host wait for the device at every call, so there the layout is trusted.

        Raises:
            ValueError: a layout or a number of bits that this family does not have.
        """
        if bits not in self.widths:
            expected = ", ".join(map(str, self.widths))
            raise ValueError(f"bits: expected one of {expected} for {self.name}, got {bits}")
        rows = self.layout_rows
        if layout.dtype != torch.int64 or layout.dim() != 2 or layout.shape[0] != rows:
            raise ValueError(
                f"layout: expected int64 [{rows}, G + 1], got {layout.dtype} {[*layout.shape]}"
            )
        pairs = (layout.shape[1] - 1, 2) if rows == 2 else None
        if not layout.is_cpu:
            return Sizes(None, pairs, None)
        ends = layout[:, -1].tolist()
        return Sizes((ends[0],), pairs or (ends[2],), (4 * ends[1],))

    def check_packet(self, sizes: "Sizes", levels: Tensor, packed: Tensor) -> None:
        """Raise unless levels and packed values are of these sizes, and levels of a known dtype.

        Raises:
            TypeError: levels of another dtype.
            ValueError: sizes that do not fit the layout.
        """
        if levels.dtype not in self.level_types:
            expected = " or ".join(map(str, self.level_types))
            raise TypeError(f"levels: expected {expected}, got {levels.dtype}")
        check_size("levels", levels, sizes.levels)
        check_size("packed", packed, sizes.packed)


class Sizes(NamedTuple):
    """The shapes of values, levels and packed values, by a layout; None where it was not read."""

    values: tuple[int, ...] | None
    levels: tuple[int, ...] | None
    packed: tuple[int, ...] | None


def check_size(name: str, tensor: Tensor, expected: tuple[int, ...] | None) -> None:
    """Raise ValueError unless the tensor is of this shape."""
    if tensor.shape != expected and expected is not None:
        raise ValueError(f"{name}: expected {[*expected]} from the layout, got {[*tensor.shape]}")


def check_memory(
    name: str,
    tensor: Tensor,
    device: torch.device,
    *dtypes: torch.dtype,
    shape: torch.Size | None = None,
) -> None:
    """Raise unless a kernel that is given the tensor's address reads what the caller meant.

    Raises:
        TypeError: another dtype than these, if any are given.
        ValueError: memory that is not contiguous or not on the device, or another shape.
    """
    if dtypes and tensor.dtype not in dtypes:
        expected = " or ".join(str(dtype) for dtype in dtypes)
        raise TypeError(f"{name}: expected {expected}, got {tensor.dtype}")
    if not tensor.is_contiguous() or tensor.device != device:
        raise ValueError(
            f"{name}: expected contiguous memory on {device}, "
            f"got {tensor.stride()} strides on {tensor.device}"
        )
    if shape is not None and tensor.shape != shape:
        raise ValueError(f"{name}: expected {[*shape]}, got {[*tensor.shape]}")


FAMILIES = {
    family.name: family
    for family in (
        Family("sign", (1,), (torch.float32, torch.bfloat16)),
        Family("rotated", (1,), (torch.float32, torch.bfloat16), layout_rows=3),
        Family("uniform", (2, 4, 8), (torch.bfloat16,)),
    )
}

_library = torch.library.Library("thinwire", "DEF")


def register(kernels: Kernels, key: str) -> None:
    """Let ``kernels[name]`` serve operator ``name`` for the dispatch key ``key``."""
    for name, kernel in kernels.items():
        _library.impl(name, kernel, key)


def largest_block(length: int) -> int:
    """Return the size of the blocks that the rotated family cuts a group of this length into.

    >>> [largest_block(length) for length in (0, 1, 300, 512, 784, 2048)]
    [1, 1, 256, 512, 512, 512]
    """
    return 1 << min(max(length, 1), ROTATED_BLOCK).bit_length() - 1


def _mutates_only(*_: Any) -> None:
    """Fake of an operator that returns nothing: there is no shape to infer."""


for _name in FAMILIES:
    for _what, _schema in SCHEMAS.items():
        _library.define(f"{_name}_{_what}{_schema}")
        torch.library.register_fake(f"thinwire::{_name}_{_what}", _mutates_only, lib=_library)
