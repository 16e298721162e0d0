"""The C++ kernels for CPU tensors (``native/``), checked here because they take raw addresses.

Function multiversioning picks AVX-512, AVX2 or the baseline at run time; all three give the same
bits and levels. They run on up to ``torch.get_num_threads()`` threads with the GIL released.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thinwire.kernels.schemas import check_layout, check_rotated_layout, check_uniform

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
    check_layout(layout, gradient, levels, bits)
    work = _native.sign_encode
    _encode(work, gradient, scale, residual, layout, new_residual, levels, bits, 1, isa)


def sign_decode(
    levels: Tensor, bits: Tensor, layout: Tensor, out: Tensor, accumulate: bool, *, isa: str = ""
) -> None:
    """``schemas``' sign_decode; arguments and errors as for ``sign_encode``."""
    check_layout(layout, out, levels, bits)
    _decode(_native.sign_decode, levels, bits, layout, 1, out, accumulate, isa)


def sign_sum(
    levels: Sequence[Tensor],
    bits: Sequence[Tensor],
    layout: Tensor,
    out: Tensor,
    *,
    isa: str = "",
) -> None:
    """``schemas``' sign_sum; arguments and errors as for ``sign_encode``."""
    for of_packet, packed in zip(levels, bits, strict=True):
        check_layout(layout, out, of_packet, packed)
    _sum(_native.sign_sum, levels, bits, layout, 1, out, isa)


def rotated_encode(
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
    """``schemas``' rotated_encode; arguments and errors as for ``sign_encode``."""
    check_rotated_layout(layout, gradient, levels, bits)
    work = _native.rotated_encode
    _encode(work, gradient, scale, residual, layout, new_residual, levels, bits, 1, isa)


def rotated_decode(
    levels: Tensor, bits: Tensor, layout: Tensor, out: Tensor, accumulate: bool, *, isa: str = ""
) -> None:
    """``schemas``' rotated_decode; arguments and errors as for ``sign_encode``."""
    check_rotated_layout(layout, out, levels, bits)
    _decode(_native.rotated_decode, levels, bits, layout, 1, out, accumulate, isa)


def rotated_sum(
    levels: Sequence[Tensor],
    bits: Sequence[Tensor],
    layout: Tensor,
    out: Tensor,
    *,
    isa: str = "",
) -> None:
    """``schemas``' rotated_sum; arguments and errors as for ``sign_encode``."""
    for of_packet, packed in zip(levels, bits, strict=True):
        check_rotated_layout(layout, out, of_packet, packed)
    _sum(_native.rotated_sum, levels, bits, layout, 1, out, isa)


def uniform_encode(
    gradient: Tensor,
    scale: float,
    residual: Tensor,
    layout: Tensor,
    bits: int,
    new_residual: Tensor,
    levels: Tensor,
    packed: Tensor,
    *,
    isa: str = "",
) -> None:
    """``schemas``' uniform_encode; arguments and errors as for ``sign_encode``."""
    check_uniform(levels, bits)
    check_layout(layout, gradient, levels, packed)
    work = _native.uniform_encode
    _encode(work, gradient, scale, residual, layout, new_residual, levels, packed, bits, isa)


def uniform_decode(
    levels: Tensor,
    packed: Tensor,
    layout: Tensor,
    bits: int,
    out: Tensor,
    accumulate: bool,
    *,
    isa: str = "",
) -> None:
    """``schemas``' uniform_decode; arguments and errors as for ``sign_encode``."""
    check_uniform(levels, bits)
    check_layout(layout, out, levels, packed)
    _decode(_native.uniform_decode, levels, packed, layout, bits, out, accumulate, isa)


def uniform_sum(
    levels: Sequence[Tensor],
    packed: Sequence[Tensor],
    layout: Tensor,
    bits: int,
    out: Tensor,
    *,
    isa: str = "",
) -> None:
    """``schemas``' uniform_sum; arguments and errors as for ``sign_encode``."""
    for of_packet, codes in zip(levels, packed, strict=True):
        check_uniform(of_packet, bits)
        check_layout(layout, out, of_packet, codes)
    _sum(_native.uniform_sum, levels, packed, layout, bits, out, isa)


KERNELS: dict[str, Callable[..., None]] = {
    "sign_encode": sign_encode,
    "sign_decode": sign_decode,
    "sign_sum": sign_sum,
    "rotated_encode": rotated_encode,
    "rotated_decode": rotated_decode,
    "rotated_sum": rotated_sum,
    "uniform_encode": uniform_encode,
    "uniform_decode": uniform_decode,
    "uniform_sum": uniform_sum,
}


def _encode(
    work: "_native.Encode",
    gradient: Tensor,
    scale: float,
    residual: Tensor,
    layout: Tensor,
    new_residual: Tensor,
    levels: Tensor,
    packed: Tensor,
    bits: int,
    isa: str,
) -> None:
    """Check what every encoder has in common, and hand over the addresses."""
    _check("gradient", gradient, *_FLOATS)
    _check("residual", residual, torch.float32, shape=gradient.shape)
    _check("new_residual", new_residual, torch.float32, shape=gradient.shape)
    _check("levels", levels, torch.float32, torch.bfloat16)
    _check("bits", packed, torch.uint8)
    _check("layout", layout, torch.int64)
    work(
        gradient.data_ptr(),
        _FLOATS[gradient.dtype],
        scale,
        residual.data_ptr(),
        layout.data_ptr(),
        layout.shape[1] - 1,
        new_residual.data_ptr(),
        levels.data_ptr(),
        _FLOATS[levels.dtype],
        packed.data_ptr(),
        bits,
        torch.get_num_threads(),
        isa,
    )


def _decode(
    work: "_native.Decode",
    levels: Tensor,
    packed: Tensor,
    layout: Tensor,
    bits: int,
    out: Tensor,
    accumulate: bool,
    isa: str,
) -> None:
    """Check what every decoder has in common, and hand over the addresses."""
    _check("levels", levels, torch.float32, torch.bfloat16)
    _check("bits", packed, torch.uint8)
    _check("out", out, torch.float32)
    _check("layout", layout, torch.int64)
    work(
        levels.data_ptr(),
        _FLOATS[levels.dtype],
        packed.data_ptr(),
        bits,
        layout.data_ptr(),
        layout.shape[1] - 1,
        out.data_ptr(),
        accumulate,
        torch.get_num_threads(),
        isa,
    )


def _sum(
    work: "_native.Sum",
    levels: Sequence[Tensor],
    packed: Sequence[Tensor],
    layout: Tensor,
    bits: int,
    out: Tensor,
    isa: str,
) -> None:
    """Check what every sum has in common, and hand over the addresses."""
    if not levels:
        raise ValueError("levels: expected those of at least one packet, got none")
    for of_packet, codes in zip(levels, packed, strict=True):
        _check("levels", of_packet, levels[0].dtype)
        _check("bits", codes, torch.uint8)
    _check("levels", levels[0], torch.float32, torch.bfloat16)
    _check("out", out, torch.float32)
    _check("layout", layout, torch.int64)
    work(
        [of_packet.data_ptr() for of_packet in levels],
        _FLOATS[levels[0].dtype],
        [codes.data_ptr() for codes in packed],
        bits,
        layout.data_ptr(),
        layout.shape[1] - 1,
        out.data_ptr(),
        torch.get_num_threads(),
        isa,
    )


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
