"""The contract of the kernels: operator schemas and their fakes (shape functions).

A *bucket* is one flat tensor of ``n`` values cut into ``G`` groups of consecutive values; a group
shares two reconstruction levels (S section 3). ``layout`` is int64 ``[2, G + 1]``: row 0 holds the
offsets of the groups' values, row 1 the offsets of their packed signs in 32-bit words. Both start
at 0, so ``layout[0, -1] == n`` and ``bits`` has ``4 * layout[1, -1]`` bytes. Value ``i`` of a group
is bit ``i % 8`` of its byte ``i // 8``; unused bits of a group's last word are 0.

``sign_encode(gradient, scale, residual, layout, new_residual!, levels!, bits!)``
    ``v = scale * gradient + residual``; bit = ``v >= 0`` (NaN: 0); ``levels[g, b]`` is the mean of
    ``v`` over the values of group ``g`` whose bit is ``b`` (0 where there are none), which has the
    least squared error for threshold 0; ``new_residual = v - levels[g, bit]`` with the levels as
    they are stored. ``gradient`` may be float32, bfloat16 or float16; arithmetic is float32.
    ``new_residual`` may be the same memory as ``gradient`` or ``residual``.
    A group holds a non-finite value if and only if one of its levels is non-finite (or the sums
    overflow float32).

``sign_decode(levels, bits, layout, out!, accumulate)``
    ``out = levels[g, bit]``, or ``out += `` that.

``sign_sum(levels, bits, layout, out!)``
    What K packets of the same layout decode to, added in the order given: ``levels`` and ``bits``
    are lists. The same to the bit as ``sign_decode`` called for one after another.

``rotated_encode``, ``rotated_decode``, ``rotated_sum``: the same arguments; bits and levels are
    those of rotated blocks (``reference.rotated``). ``layout`` is ``[3, G + 1]``: row 2 holds the
    offsets of the groups' levels, of which group ``g`` has ``block_counts(its length)``;
    ``levels`` is 1-d.

``uniform_encode(gradient, scale, residual, layout, bits, new_residual!, levels!, packed!)``
``uniform_decode(levels, packed, layout, bits, out!, accumulate)``
``uniform_sum(levels, packed, layout, bits, out!)``
    ``bits`` of 2, 4 or 8 a value: value ``i`` of a group begins at its bit ``i * bits``, low bits
    first; row 1 of ``layout`` is for that many bits. ``levels`` are bfloat16: a group's smallest
    and largest ``v``, rounded outward, both NaN if and only if the group holds a non-finite value
    (``reference.uniform``).

``levels`` are float32 or bfloat16, ``[G, 2]`` unless said otherwise; everything else is float32.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

SCHEMAS = {
    "sign_encode": (
        "(Tensor gradient, float scale, Tensor residual, Tensor layout,"
        " Tensor(a!) new_residual, Tensor(b!) levels, Tensor(c!) bits) -> ()"
    ),
    "sign_decode": (
        "(Tensor levels, Tensor bits, Tensor layout, Tensor(a!) out, bool accumulate) -> ()"
    ),
    "sign_sum": "(Tensor[] levels, Tensor[] bits, Tensor layout, Tensor(a!) out) -> ()",
    "uniform_encode": (
        "(Tensor gradient, float scale, Tensor residual, Tensor layout, int bits,"
        " Tensor(a!) new_residual, Tensor(b!) levels, Tensor(c!) packed) -> ()"
    ),
    "uniform_decode": (
        "(Tensor levels, Tensor packed, Tensor layout, int bits, Tensor(a!) out, bool accumulate)"
        " -> ()"
    ),
    "uniform_sum": (
        "(Tensor[] levels, Tensor[] packed, Tensor layout, int bits, Tensor(a!) out) -> ()"
    ),
}
SCHEMAS.update({f"rotated_{what}": SCHEMAS[f"sign_{what}"] for what in ("encode", "decode", "sum")})

ROTATED_BLOCK = 512  # values in the largest block of the rotated code
UNIFORM_BITS = (2, 4, 8)

_library = torch.library.Library("thinwire", "DEF")


def register(kernels: Mapping[str, Callable[..., None]], key: str) -> None:
    """Let ``kernels[name]`` serve operator ``name`` for the dispatch key ``key``."""
    for name, kernel in kernels.items():
        _library.impl(name, kernel, key)


def check_layout(layout: Tensor, values: Tensor, levels: Tensor, bits: Tensor) -> None:
    """Raise ValueError unless the sizes of one call's tensors fit together.

    Args:
        layout: int64 ``[2, G + 1]``.
        values: any tensor of the bucket's ``n`` values.
        levels: ``[G, 2]``.
        bits: uint8 ``[4 * words]``.
    """
    n, words = _ends(layout, rows=2)
    _check_sizes(
        {"values": (n,), "levels": (layout.shape[1] - 1, 2), "bits": (4 * words,)},
        {"values": values.shape, "levels": levels.shape, "bits": bits.shape},
    )


def check_rotated_layout(layout: Tensor, values: Tensor, levels: Tensor, bits: Tensor) -> None:
    """``check_layout`` for the rotated code: layout int64 ``[3, G + 1]``, levels 1-d."""
    n, words, count = _ends(layout, rows=3)
    _check_sizes(
        {"values": (n,), "levels": (count,), "bits": (4 * words,)},
        {"values": values.shape, "levels": levels.shape, "bits": bits.shape},
    )


def check_uniform(levels: Tensor, bits: int) -> None:
    """Raise unless these are a width and levels that the uniform code has."""
    if bits not in UNIFORM_BITS:
        raise ValueError(f"bits: expected one of {', '.join(map(str, UNIFORM_BITS))}, got {bits}")
    if levels.dtype != torch.bfloat16:
        raise TypeError(f"levels: expected torch.bfloat16, got {levels.dtype}")


def block_counts(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """How the rotated code cuts groups.

    Args:
        lengths: int64, any shape.

    Returns:
        The number of levels of groups of these lengths, and the size of their blocks.

    >>> block_counts(torch.tensor([0, 1, 300, 512, 784, 2048]))
    (tensor([0, 1, 2, 1, 2, 4]), tensor([  1,   1, 256, 512, 512, 512]))
    """
    powers = 2 ** torch.arange(ROTATED_BLOCK.bit_length(), device=lengths.device)
    block = powers[(torch.bucketize(lengths, powers, right=True) - 1).clamp(min=0)]
    return (lengths + block - 1) // block, block


def _ends(layout: Tensor, rows: int) -> list[int]:
    """The last column of a layout that has this many rows."""
    if layout.dtype != torch.int64 or layout.dim() != 2 or layout.shape[0] != rows:
        raise ValueError(
            f"layout: expected int64 [{rows}, G + 1], got {layout.dtype} {[*layout.shape]}"
        )
    ends: list[int] = layout[:, -1].tolist()
    return ends


def _check_sizes(
    expected: dict[str, tuple[int, ...]], got: dict[str, torch.Size | tuple[int, ...]]
) -> None:
    for name, shape in expected.items():
        if tuple(got[name]) != shape:
            raise ValueError(f"{name}: expected {[*shape]} from the layout, got {[*got[name]]}")


def _mutates_only(*_: Any) -> None:
    """Fake of an operator that returns nothing: there is no shape to infer."""


for _name, _schema in SCHEMAS.items():
    _library.define(_name + _schema)
    torch.library.register_fake(f"thinwire::{_name}", _mutates_only, lib=_library)
