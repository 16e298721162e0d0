"""The hot loops: one contract, several back ends.

``schemas`` has a row for each family of kernels and declares its operators, ``reference`` defines
them in plain torch (the oracle, and what runs where nothing faster is built), ``native`` runs them
in C++ on the CPU, ``triton_kernels`` on GPUs. Importing this package registers them; ``OPERATORS``
has all of them by name, as ``OPERATORS["sign_encode"]``.
"""

import functools
import warnings
from collections.abc import Callable

import torch

from thinwire.kernels import native, reference, schemas, triton_kernels
from thinwire.kernels.schemas import FAMILIES, SCHEMAS, Family

schemas.register(reference.KERNELS, "CompositeExplicitAutograd")
schemas.register(native.KERNELS, "CPU")
if triton_kernels.available():
    schemas.register(triton_kernels.KERNELS, "CUDA")

OPERATORS: dict[str, Callable[..., None]] = {
    f"{name}_{what}": getattr(torch.ops.thinwire, f"{name}_{what}").default
    for name in FAMILIES
    for what in SCHEMAS
}


def active(device: str = "cpu") -> str:
    """Return the back end that serves tensors of one type of device.

    Args:
        device: ``"cpu"``, ``"cuda"`` or another type of ``torch.device``.

    Returns:
        ``"native (avx512)"`` with the best instruction set of this processor, ``"triton"`` or
        ``"reference"``.
    """
    sets = native.instruction_sets()
    if device == "cpu" and sets:
        return f"native ({sets[-1]})"
    return "triton" if device == "cuda" and triton_kernels.available() else "reference"


@functools.cache
def warn_if_slow(device: torch.device) -> None:
    """Say once that tensors on this device are quantised by plain torch, if they are."""
    if active(device.type) == "reference" and device.type in _REMEDIES:
        warnings.warn(_REMEDIES[device.type], RuntimeWarning, stacklevel=2)


_REMEDIES = {
    "cpu": (
        "thinwire was installed without its compiled kernels and quantises hundreds of times "
        "slower: install a C++ compiler and reinstall it (`thinwire doctor` tells more)"
    ),
    "cuda": (
        "thinwire quantises tensors of a GPU by plain torch, in many small steps, because triton "
        "is not installed: pip install 'thinwire[gpu]'"
    ),
}


__all__ = [
    "FAMILIES",
    "OPERATORS",
    "Family",
    "active",
    "native",
    "reference",
    "schemas",
    "triton_kernels",
    "warn_if_slow",
]
