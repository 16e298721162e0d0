"""Gradient, Hessian and Gauss-Newton products of a mean loss over samples sharded over workers."""

from thinwire.curvature.cost import NOTHING, Cost, Evaluation, joined
from thinwire.curvature.fisher import kronecker_layers
from thinwire.curvature.flat import CURVED, FlatModel, FlatParameters, twice_differentiable
from thinwire.curvature.host import added, all_finite, read
from thinwire.curvature.operator import (
    CurvatureOperator,
    GaussNewtonOperator,
    HessianOperator,
    gradient,
)
from thinwire.curvature.output_hessian import Loss, by_differentiation, output_hessian
from thinwire.curvature.probe import check_deterministic, check_outputs
from thinwire.curvature.products import gauss_newton_product, hessian_product
from thinwire.curvature.samples import Batch, FisherKind, Samples
from thinwire.curvature.striped import StripedOperator
from thinwire.curvature.weighted_loss import (
    WeightedLoss,
    as_mean,
    by_classes,
    check_mean,
    class_weight,
    needs_weights,
    torch_loss,
)
from thinwire.curvature.workers import Workers

__all__ = [
    "CURVED",
    "NOTHING",
    "Batch",
    "Cost",
    "CurvatureOperator",
    "Evaluation",
    "FisherKind",
    "FlatModel",
    "FlatParameters",
    "GaussNewtonOperator",
    "HessianOperator",
    "Loss",
    "Samples",
    "StripedOperator",
    "WeightedLoss",
    "Workers",
    "added",
    "all_finite",
    "as_mean",
    "by_classes",
    "by_differentiation",
    "check_deterministic",
    "check_mean",
    "check_outputs",
    "class_weight",
    "gauss_newton_product",
    "gradient",
    "hessian_product",
    "joined",
    "kronecker_layers",
    "needs_weights",
    "output_hessian",
    "read",
    "torch_loss",
    "twice_differentiable",
]
