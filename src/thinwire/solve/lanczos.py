"""The direction of most negative curvature that a random probe finds, by Lanczos' method."""

import math

import torch
from torch import Tensor

from thinwire.solve.operator import Matrix, as_operator


def most_negative(B: Matrix, probe: Tensor, *, iterations: int = 20) -> tuple[float, Tensor]:
    """The smallest Ritz value of B in the Krylov space of a probe, and its vector.

    The gradient at a saddle may have no component along the eigenvectors that lead away from it,
    and then neither have a solver's iterates; a random probe has.

    Args:
        B: a symmetric matrix as a function v -> B v, or an ``Operator``.
        probe: [P], not zero.
        iterations: products with B at most.

    Returns:
        d.Bd and d with |d| = 1. (inf, probe) where a product is not finite.
    """
    B = as_operator(B)
    (square,) = B.dots([(probe, probe)])
    q = probe / math.sqrt(square)
    basis: list[Tensor] = []
    diagonal: list[float] = []
    off: list[float] = []
    for _ in range(iterations):
        w, (alpha,) = B.product(q, against=[q])
        if not math.isfinite(alpha):
            return math.inf, probe
        basis.append(q)
        diagonal.append(alpha)
        for e, overlap in zip(basis, B.dots([(w, e) for e in basis]), strict=True):
            w = w - overlap * e
        (square,) = B.dots([(w, w)])
        if square <= (1e-6 * max(map(abs, diagonal))) ** 2:
            break
        off.append(math.sqrt(square))
        q = w / off[-1]
    between = torch.tensor(off[: len(diagonal) - 1], dtype=torch.float64, device="cpu")
    T = torch.diag(torch.tensor(diagonal, dtype=torch.float64, device="cpu"))
    T = T + torch.diag(between, 1) + torch.diag(between, -1)
    values, vectors = torch.linalg.eigh(T)
    d = torch.stack(basis, 1) @ vectors[:, 0].to(probe)
    return float(values[0]), d
