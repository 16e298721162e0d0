"""Calls of kernels: every back end by name, and the tensors that one call needs."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from thinwire.kernels import FAMILIES, native, reference, triton_kernels
from thinwire.quantize import Columns

Kernels = Mapping[str, Callable[..., None]]

CUDA = torch.cuda.is_available()


def on_cuda(work: Callable[..., None]) -> Callable[..., None]:
    """The same operator for tensors of the CPU: it works on copies, tensor for tensor."""

    def moved(argument: Any, copies: dict[int, tuple[Tensor, Tensor]]) -> Any:
        if isinstance(argument, list):
            return [moved(part, copies) for part in argument]
        if not isinstance(argument, Tensor):
            return argument
        return copies.setdefault(id(argument), (argument, argument.cuda()))[1]

    def call(*arguments: Any) -> None:
        copies: dict[int, tuple[Tensor, Tensor]] = {}
        work(*[moved(argument, copies) for argument in arguments])
        for own, copy in copies.values():
            own.copy_(copy)

    return call


def interpreted(work: Callable[..., None]) -> Callable[..., None]:
    """The same operator, without numpy's warnings of what a device does silently."""

    def call(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            work(*arguments)

    return call


NATIVE: dict[str, Kernels] = {
    isa: {name: partial(work, isa=isa) for name, work in native.KERNELS.items()}
    for isa in native.instruction_sets()
}
BACK_ENDS: dict[str, Kernels] = {"reference": reference.KERNELS, **NATIVE}
TRITON = [
    pytest.param(
        {name: interpreted(work) for name, work in triton_kernels.KERNELS.items()},
        id="triton",
        marks=pytest.mark.skipif(
            CUDA or not triton_kernels.available(),
            reason="triton is not installed, or compiles for the CUDA device that is here",
        ),
    ),
    pytest.param(
        {name: on_cuda(work) for name, work in triton_kernels.KERNELS.items()},
        id="cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not CUDA, reason="no CUDA device is here")],
    ),
]
every_back_end = pytest.mark.parametrize(
    "back_end", [*(pytest.param(kernels, id=name) for name, kernels in BACK_ENDS.items()), *TRITON]
)
triton_back_ends = pytest.mark.parametrize("back_end", TRITON)
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
