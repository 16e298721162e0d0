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

``levels`` are float32 or bfloat16 ``[G, 2]``, everything else float32.
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
}

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
    if layout.dtype != torch.int64 or layout.dim() != 2 or layout.shape[0] != 2:
        raise ValueError(f"layout: expected int64 [2, G + 1], got {layout.dtype} {[*layout.shape]}")
    n, words = layout[:, -1].tolist()
    expected = {"values": (n,), "levels": (layout.shape[1] - 1, 2), "bits": (4 * words,)}
    got = {"values": values.shape, "levels": levels.shape, "bits": bits.shape}
    for name, shape in expected.items():
        if tuple(got[name]) != shape:
            raise ValueError(f"{name}: expected {[*shape]} from the layout, got {[*got[name]]}")


def _mutates_only(*_: Any) -> None:
    """Fake of an operator that returns nothing: there is no shape to infer."""


for _name, _schema in SCHEMAS.items():
    _library.define(_name + _schema)
    torch.library.register_fake(f"thinwire::{_name}", _mutates_only, lib=_library)
