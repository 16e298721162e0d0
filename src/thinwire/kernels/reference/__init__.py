"""The definition of every kernel in plain torch: the oracle, and the fallback on any device."""

from collections.abc import Callable

from thinwire.kernels.reference.rotated import rotated_decode, rotated_encode
from thinwire.kernels.reference.sign import sign_decode, sign_encode
from thinwire.kernels.reference.uniform import uniform_decode, uniform_encode

KERNELS: dict[str, Callable[..., None]] = {
    "sign_encode": sign_encode,
    "sign_decode": sign_decode,
    "rotated_encode": rotated_encode,
    "rotated_decode": rotated_decode,
    "uniform_encode": uniform_encode,
    "uniform_decode": uniform_decode,
}

__all__ = ["KERNELS", *KERNELS]
