"""The definition of every kernel in plain torch: the oracle, and the fallback on any device."""

from collections.abc import Callable

from thinwire.kernels.reference import rotated, sign, uniform
from thinwire.kernels.reference.operators import Definition, operators
from thinwire.kernels.schemas import FAMILIES

_DEFINITIONS = {
    "sign": Definition(sign.quantise, sign.reconstruct),
    "rotated": Definition(rotated.quantise, rotated.reconstruct),
    "uniform": Definition(uniform.quantise, uniform.reconstruct),
}
KERNELS: dict[str, Callable[..., None]] = {
    name: operator
    for family in FAMILIES.values()
    for name, operator in operators(family, _DEFINITIONS[family.name]).items()
}

__all__ = ["KERNELS"]
