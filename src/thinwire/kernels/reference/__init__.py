"""The definition of every kernel in plain torch: the oracle, and the fallback on any device."""

from collections.abc import Callable

from thinwire.kernels.reference.rotated import rotated_decode, rotated_encode, rotated_sum
from thinwire.kernels.reference.sign import sign_decode, sign_encode, sign_sum
from thinwire.kernels.reference.uniform import uniform_decode, uniform_encode, uniform_sum

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

__all__ = ["KERNELS", *KERNELS]
