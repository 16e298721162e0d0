"""Preconditioners: cheap approximations of a curvature matrix's inverse."""

from collections.abc import Callable

from torch import Tensor


def jacobi(diagonal: Tensor, damping: float, exponent: float = 0.75) -> Callable[[Tensor], Tensor]:
    """r -> (D + lambda)^-exponent r (Martens 2010, section 4.7).

    Args:
        diagonal: [P], D >= 0, such as the mean squared per-sample gradient.
        damping: lambda > 0.
        exponent: 3/4 in the paper; 1 is Jacobi's.
    """
    scale = (diagonal + damping).pow_(-exponent)
    return lambda r: scale * r
