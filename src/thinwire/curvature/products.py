"""Products of one batch's curvature matrix with a vector, from graphs that are recorded once.

    Hessian        H v = d(g . v) / d theta,        g = d loss / d theta with its graph
    Gauss-Newton   G v = J' H_L J v,                J v = d(J'u . v) / d u for a dummy u

Double backward works for every module that can be differentiated twice; with the graphs kept, a
product costs one backward through them, as a hand-written R-operator does (Pearlmutter 1994).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thinwire.curvature.output_hessian import Product as OutputProduct

LocalProduct = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Pieces of v, one of each leaf's shape -> pieces of the product."""


def hessian_product(value: Tensor, leaves: Sequence[Tensor]) -> LocalProduct:
    """V -> (d^2 value / d leaves^2) v.

    Args:
        value: a scalar, with its graph.
        leaves: what it depends on.
    """
    gradient = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
    curved = [g for g in gradient if g.grad_fn is not None]  # others are constant

    def product(v: Sequence[Tensor]) -> Sequence[Tensor]:
        if not curved:
            return [torch.zeros_like(leaf) for leaf in leaves]
        along = [piece for piece, g in zip(v, gradient, strict=True) if g.grad_fn is not None]
        return torch.autograd.grad(curved, leaves, along, retain_graph=True, materialize_grads=True)

    return product


def gauss_newton_product(
    outputs: Tensor, loss_curvature: OutputProduct, leaves: Sequence[Tensor]
) -> LocalProduct:
    """V -> J' H_L J v, with J = d outputs / d leaves.

    Args:
        outputs: the model's, with their graph.
        loss_curvature: u -> H_L u, the loss's Hessian in the outputs.
        leaves: what the outputs depend on.
    """
    u = torch.zeros_like(outputs, requires_grad=True)
    transposed = torch.autograd.grad(outputs, leaves, u, create_graph=True, materialize_grads=True)
    used = [t for t in transposed if t.grad_fn is not None]

    def product(v: Sequence[Tensor]) -> Sequence[Tensor]:
        if not used:  # the outputs depend on other parameters alone
            return [torch.zeros_like(leaf) for leaf in leaves]
        along = [piece for piece, t in zip(v, transposed, strict=True) if t.grad_fn is not None]
        (jv,) = torch.autograd.grad(used, u, along, retain_graph=True)
        return torch.autograd.grad(
            outputs, leaves, loss_curvature(jv), retain_graph=True, materialize_grads=True
        )

    return product
