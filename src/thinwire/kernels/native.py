"""The C++ kernels for CPU tensors (``native/``), checked here because they take raw addresses.

Function multiversioning picks AVX-512, AVX2 or the baseline at run time; all three give the same
bits and levels. They run on up to ``torch.get_num_threads()`` threads with the GIL released.

``KERNELS`` holds the operators of every family (``schemas``). Each also takes ``isa``, one of
``instruction_sets()``, to force a variant. They raise TypeError for a tensor of the wrong dtype and
ValueError for sizes that do not fit the layout or memory that is not contiguous on the CPU.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thinwire.kernels.schemas import FAMILIES, Family, check_memory, check_size

try:
    from thinwire.kernels import _native
except ImportError:  # built without a compiler: the reference serves
    _native = None  # type: ignore[assignment]

_CPU = torch.device("cpu")
_FLOATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def available() -> bool:
    """Return whether the C++ kernels were built into this installation."""
    return _native is not None


def instruction_sets() -> list[str]:
    """Return the variants this processor runs, best last; none without C++ kernels."""
    return _native.instruction_sets() if available() else []


def _encoder(family: Family, work: "_native.Encode") -> Callable[..., None]:
    def encode(
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
        sizes = family.sizes(layout, bits)
        check_size("gradient", gradient, sizes.values)
        family.check_packet(sizes, levels, packed)
        check_memory("gradient", gradient, _CPU, *_FLOATS)
        check_memory("residual", residual, _CPU, torch.float32, shape=gradient.shape)
        check_memory("new_residual", new_residual, _CPU, torch.float32, shape=gradient.shape)
        check_memory("levels", levels, _CPU)
        check_memory("packed", packed, _CPU, torch.uint8)
        check_memory("layout", layout, _CPU)
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

    return encode


def _decoder(family: Family, work: "_native.Decode") -> Callable[..., None]:
    def decode(
        levels: Tensor,
        packed: Tensor,
        layout: Tensor,
        bits: int,
        out: Tensor,
        accumulate: bool,
        *,
        isa: str = "",
    ) -> None:
        sizes = family.sizes(layout, bits)
        check_size("out", out, sizes.values)
        family.check_packet(sizes, levels, packed)
        check_memory("levels", levels, _CPU)
        check_memory("packed", packed, _CPU, torch.uint8)
        check_memory("out", out, _CPU, torch.float32)
        check_memory("layout", layout, _CPU)
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

    return decode


def _summer(family: Family, work: "_native.Sum") -> Callable[..., None]:
    def sum_(
        levels: Sequence[Tensor],
        packed: Sequence[Tensor],
        layout: Tensor,
        bits: int,
        out: Tensor,
        *,
        isa: str = "",
    ) -> None:
        if not levels:
            raise ValueError("levels: expected those of at least one packet, got none")
        sizes = family.sizes(layout, bits)
        check_size("out", out, sizes.values)
        for of_packet, codes in zip(levels, packed, strict=True):
            family.check_packet(sizes, of_packet, codes)
            check_memory("levels", of_packet, _CPU, levels[0].dtype)
            check_memory("packed", codes, _CPU, torch.uint8)
        check_memory("out", out, _CPU, torch.float32)
        check_memory("layout", layout, _CPU)
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

    return sum_


_WRAPPERS: dict[str, Callable[..., Callable[..., None]]] = {
    "encode": _encoder,
    "decode": _decoder,
    "sum": _summer,
}
KERNELS: dict[str, Callable[..., None]] = {
    f"{name}_{what}": wrapper(family, getattr(_native, f"{name}_{what}"))
    for name, family in FAMILIES.items()
    for what, wrapper in _WRAPPERS.items()
    if available()
}
