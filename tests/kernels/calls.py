"""Calls of kernels: every back end by name, and the tensors that one call needs."""

from collections.abc import Callable, Mapping
from functools import partial

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from thinwire.kernels import FAMILIES, native, reference
from thinwire.quantize import Columns

Kernels = Mapping[str, Callable[..., None]]

BACK_ENDS: dict[str, Kernels] = {"reference": reference.KERNELS}
for _isa in native.instruction_sets():
    BACK_ENDS[_isa] = {name: partial(work, isa=_isa) for name, work in native.KERNELS.items()}
NATIVE = {name: kernels for name, kernels in BACK_ENDS.items() if name != "reference"}
FAMILY_BITS = [(family.name, bits) for family in FAMILIES.values() for bits in family.widths]

needs_native = pytest.mark.skipif(not native.available(), reason="built without a compiler")
lengths = st.lists(
    st.one_of(
        st.integers(0, 70),
        st.integers(1, 2500),
        st.sampled_from([255, 256, 512, 513, 784, 2048, 4097, 9000]),
    ),
    max_size=6,
)
gradient_types = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
seeds = st.integers(0, 2**31)


def layout_of(family: str, bits: int, columns: Columns) -> Tensor:
    blocks = FAMILIES[family].layout_rows == 3
    return columns.block_table if blocks else columns.packed_table(bits)


def inputs(
    columns: Columns, dtype: torch.dtype, seed: int, zeros: float = 0.1
) -> tuple[Tensor, Tensor]:
    """A gradient of this dtype and a residual, with zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, columns.values, generator=generator)
    values[torch.rand(values.shape, generator=generator) < zeros] = 0
    return values[0].to(dtype), values[1].clone()


def outputs(
    family: str, bits: int, columns: Columns, level_type: torch.dtype = torch.bfloat16
) -> tuple[Tensor, Tensor]:
    """Room for levels and packed values, with something else in it."""
    blocks = FAMILIES[family].layout_rows == 3
    shape = (columns.blocks,) if blocks else (columns.groups, 2)
    packed = torch.full((4 * columns.packed_words(bits),), 7, dtype=torch.uint8)
    return torch.full(shape, 7.0, dtype=level_type), packed


def encode(
    kernels: Kernels,
    family: str,
    bits: int,
    columns: Columns,
    gradient: Tensor,
    residual: Tensor,
    *,
    scale: float = 1.0,
    level_type: torch.dtype = torch.bfloat16,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(new residual, levels, packed)."""
    new_residual = torch.full_like(residual, 7.0) if target is None else target
    levels, packed = outputs(family, bits, columns, level_type)
    layout = layout_of(family, bits, columns)
    kernels[f"{family}_encode"](
        gradient, scale, residual, layout, bits, new_residual, levels, packed
    )
    return new_residual, levels, packed


def decode(
    kernels: Kernels, family: str, bits: int, columns: Columns, levels: Tensor, packed: Tensor
) -> Tensor:
    out = torch.full((columns.values,), torch.nan)
    layout = layout_of(family, bits, columns)
    kernels[f"{family}_decode"](levels, packed, layout, bits, out, False)
    return out
