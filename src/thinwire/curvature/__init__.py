"""Gradient, Hessian and Gauss-Newton products of a mean loss over samples sharded over workers."""

from thinwire.curvature.fisher import kronecker_layers
from thinwire.curvature.flat import FlatModel, FlatParameters, twice_differentiable
from thinwire.curvature.operator import (
    CurvatureOperator,
    GaussNewtonOperator,
    HessianOperator,
    gradient,
)
from thinwire.curvature.output_hessian import Loss, by_differentiation, output_hessian
from thinwire.curvature.probe import check_deterministic
from thinwire.curvature.products import gauss_newton_product, hessian_product
from thinwire.curvature.samples import Batch, FisherKind, Samples
from thinwire.curvature.striped import StripedOperator

__all__ = [
    "Batch",
    "CurvatureOperator",
    "FisherKind",
    "FlatModel",
    "FlatParameters",
    "GaussNewtonOperator",
    "HessianOperator",
    "Loss",
    "Samples",
    "StripedOperator",
    "by_differentiation",
    "check_deterministic",
    "gauss_newton_product",
    "gradient",
    "hessian_product",
    "kronecker_layers",
    "output_hessian",
    "twice_differentiable",
]
