"""The hot loops: one contract, several back ends.

``schemas`` has a row for each family of kernels and declares its operators, ``reference`` defines
them in plain torch (the oracle, and what runs where nothing faster is built), ``native`` runs them
in C++ on the CPU. Importing this package registers them; ``OPERATORS`` has all of them by name, as
``OPERATORS["sign_encode"]``.
"""

import functools
import warnings
from collections.abc import Callable

import torch

from thinwire.kernels import native, reference, schemas
from thinwire.kernels.schemas import FAMILIES, SCHEMAS, Family

schemas.register(reference.KERNELS, "CompositeExplicitAutograd")
schemas.register(native.KERNELS, "CPU")

OPERATORS: dict[str, Callable[..., None]] = {
    f"{name}_{what}": getattr(torch.ops.thinwire, f"{name}_{what}").default
    for name in FAMILIES
    for what in SCHEMAS
}


def active() -> str:
    """Return the back end that serves CPU tensors: ``"native (avx512)"`` or ``"reference"``."""
    sets = native.instruction_sets()
    return f"native ({sets[-1]})" if sets else "reference"


@functools.cache
def warn_if_slow(device: torch.device) -> None:
    """Say once that tensors on this device are quantised by plain torch, if they are."""
    if device.type == "cpu" and not native.available():
        warnings.warn(
            "thinwire was installed without its compiled kernels and quantises hundreds of times "
            "slower: install a C++ compiler and reinstall it (`thinwire doctor` tells more)",
            RuntimeWarning,
            stacklevel=2,
        )


__all__ = [
    "FAMILIES",
    "OPERATORS",
    "Family",
    "active",
    "native",
    "reference",
    "schemas",
    "warn_if_slow",
]
