"""Preconditioners: cheap approximations of a damped curvature matrix's inverse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Preconditioner = Callable[[Tensor], Tensor]


def jacobi(diagonal: Tensor, damping: float, exponent: float = 0.75) -> Preconditioner:
    """R -> (D + lambda)^-exponent r (Martens 2010, section 4.7).

    Args:
        diagonal: [P], D >= 0, such as the mean squared per-sample gradient.
        damping: lambda > 0.
        exponent: 3/4 in the paper; 1 is Jacobi's.
    """
    scale = (diagonal + damping).pow_(-exponent)
    return lambda r: scale * r


@dataclass(frozen=True)
class LinearLayer:
    """Where a linear layer is in a flat vector.

    Attributes:
        outputs: rows of its weight.
        inputs: columns of its weight.
        weight: index of the weight's first value.
        bias: index of the bias's first value; None without one.
    """

    outputs: int
    inputs: int
    weight: int
    bias: int | None

    @property
    def width(self) -> int:
        """Columns of the weight with the bias beside it."""
        return self.inputs + (self.bias is not None)

    def matrix(self, vector: Tensor) -> Tensor:
        """The layer's values as [outputs, width], the bias as the last column."""
        flat = vector[self.weight : self.weight + self.outputs * self.inputs]
        weight = flat.view(self.outputs, self.inputs)
        if self.bias is None:
            return weight
        return torch.cat([weight, vector[self.bias : self.bias + self.outputs, None]], dim=1)

    def put(self, matrix: Tensor, vector: Tensor) -> None:
        """Write [outputs, width] into a flat vector."""
        flat = vector[self.weight : self.weight + self.outputs * self.inputs]
        flat.view(self.outputs, self.inputs).copy_(matrix[:, : self.inputs])
        if self.bias is not None:
            vector[self.bias : self.bias + self.outputs] = matrix[:, -1]


def kronecker(factors: Tensor, layers: Sequence[LinearLayer], damping: float) -> Preconditioner:
    """R -> (A (x) G + lambda I)^-1 r for each layer, exactly, from the factors' eigenvectors.

    With A = U_A diag(a) U_A' and G = U_G diag(g) U_G', a layer's part R [outputs, width] becomes
    U_G ((U_G' R U_A) / (g a' + lambda)) U_A'. Two small eigenvalue problems for each layer and
    solve; each application costs about a product with one sample for every column.

    Args:
        factors: A and G of each layer end to end, as ``curvature.kronecker_factors`` gives them.
        layers: where the layers are.
        damping: lambda > 0.
    """
    sizes = [n * n for layer in layers for n in (layer.width, layer.outputs)]
    squares = iter(factors.split(sizes))
    spectra = []
    for layer in layers:
        a, U_A = torch.linalg.eigh(next(squares).view(layer.width, layer.width))
        g, U_G = torch.linalg.eigh(next(squares).view(layer.outputs, layer.outputs))
        scale = 1 / (torch.outer(g.clamp_(min=0), a.clamp_(min=0)) + damping)
        spectra.append((layer, U_A, U_G, scale))

    def apply(r: Tensor) -> Tensor:
        result = torch.empty_like(r)
        for layer, U_A, U_G, scale in spectra:
            R = (U_G.T @ layer.matrix(r) @ U_A).mul_(scale)
            layer.put(U_G @ R @ U_A.T, result)
        return result

    return apply
