"""The C++ kernels for CPU tensors (``native/``), checked here because they take raw addresses.

Function multiversioning picks AVX-512, AVX2 or the baseline at run time; all three give the same
bits and levels. They run on up to ``torch.get_num_threads()`` threads with the GIL released.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from thinwire.kernels.schemas import check_layout

try:
    from thinwire.kernels import _native
except ImportError:  # built without a compiler: the reference serves
    _native = None  # type: ignore[assignment]

_FLOATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def available() -> bool:
    """Whether the C++ kernels were built into this installation."""
    return _native is not None


def instruction_sets() -> list[str]:
    """The compiled variants this processor runs, best last; empty without C++ kernels."""
    return _native.instruction_sets() if available() else []


def sign_encode(
    gradient: Tensor,
    scale: float,
    residual: Tensor,
    layout: Tensor,
    new_residual: Tensor,
    levels: Tensor,
    bits: Tensor,
    *,
    isa: str = "",
) -> None:
    """``schemas``' sign_encode. ``isa`` forces one of ``instruction_sets()``.

    Raises:
        TypeError: a tensor of the wrong dtype.
        ValueError: sizes that do not fit the layout, or memory that is not contiguous on the CPU.
    """
    _check("gradient", gradient, *_FLOATS)
    _check("residual", residual, torch.float32, shape=gradient.shape)
    _check("new_residual", new_residual, torch.float32, shape=gradient.shape)
    _check("levels", levels, torch.float32, torch.bfloat16)
    _check("bits", bits, torch.uint8)
    _check("layout", layout, torch.int64)
    check_layout(layout, gradient, levels, bits)
    _native.sign_encode(
        gradient.data_ptr(),
        _FLOATS[gradient.dtype],
        scale,
        residual.data_ptr(),
        layout.data_ptr(),
        layout.data_ptr() + 8 * layout.shape[1],
        layout.shape[1] - 1,
        new_residual.data_ptr(),
        levels.data_ptr(),
        _FLOATS[levels.dtype],
        bits.data_ptr(),
        torch.get_num_threads(),
        isa,
    )


def sign_decode(
    levels: Tensor, bits: Tensor, layout: Tensor, out: Tensor, accumulate: bool, *, isa: str = ""
) -> None:
    """``schemas``' sign_decode. ``isa`` forces one of ``instruction_sets()``.

    Raises:
        TypeError: a tensor of the wrong dtype.
        ValueError: sizes that do not fit the layout, or memory that is not contiguous on the CPU.
    """
    _check("levels", levels, torch.float32, torch.bfloat16)
    _check("bits", bits, torch.uint8)
    _check("out", out, torch.float32)
    _check("layout", layout, torch.int64)
    check_layout(layout, out, levels, bits)
    _native.sign_decode(
        levels.data_ptr(),
        _FLOATS[levels.dtype],
        bits.data_ptr(),
        layout.data_ptr(),
        layout.data_ptr() + 8 * layout.shape[1],
        layout.shape[1] - 1,
        out.data_ptr(),
        accumulate,
        torch.get_num_threads(),
        isa,
    )


KERNELS: dict[str, Callable[..., None]] = {"sign_encode": sign_encode, "sign_decode": sign_decode}


def _check(
    name: str, tensor: Tensor, *dtypes: torch.dtype, shape: torch.Size | None = None
) -> None:
    if tensor.dtype not in dtypes:
        expected = " or ".join(str(dtype) for dtype in dtypes)
        raise TypeError(f"{name}: expected {expected}, got {tensor.dtype}")
    if not (tensor.is_contiguous() and tensor.device.type == "cpu"):
        raise ValueError(f"{name}: expected contiguous CPU memory, got {tensor.stride()} strides")
    if shape is not None and tensor.shape != shape:
        raise ValueError(f"{name}: expected {[*shape]}, got {[*tensor.shape]}")
