"""Preconditioned conjugate gradients for B x = b, one reduction for each iteration.

The recurrences are those of Chronopoulos and Gear (1989): the product is taken with the
preconditioned residual u instead of the search direction p, so that all inner products of an
iteration are known at the same time and ride in the product's reduction. In exact arithmetic the
iterates are those of the textbook method.

    gamma = r.u    delta = u.Bu    beta = gamma / gamma_old
    p = u + beta p    s = B p = Bu + beta s    p.Bp = delta - beta gamma / alpha_old
    alpha = gamma / p.Bp    x += alpha p    r -= alpha s    u = M r

The model's value falls by alpha gamma / 2 in each iteration and needs no product of its own.
"""

import math

import torch
from torch import Tensor

from thinwire.solve.operator import Matrix, as_operator
from thinwire.solve.preconditioner import Preconditioner
from thinwire.solve.solution import Outcome, Solution, stagnates


def cg(
    B: Matrix,
    b: Tensor,
    *,
    x0: Tensor | None = None,
    preconditioner: Preconditioner | None = None,
    iterations: int = 50,
    tolerance: float = 1e-10,
    progress: float = 5e-4,
) -> Solution:
    """Minimise m(x) = x.Bx / 2 - b.x until it is solved, stalls or turns out to be unbounded.

    Args:
        B: a symmetric matrix as a function v -> B v, or an ``Operator``.
        b: [P], the right-hand side.
        x0: [P], where to begin; zero by default.
        preconditioner: r -> M r, with M symmetric, positive definite and near the inverse of B.
        iterations: at most so many.
        tolerance: of sqrt(r.Mr / b.Mb); the outcome is then ``CONVERGED``.
        progress: least relative progress of the model per iteration, see ``stagnates``.

    Returns:
        The solution; a matrix or preconditioner that is not positive definite, or a product that
        is not finite, is an outcome, never an exception.
    """
    B, M = as_operator(B), preconditioner or (lambda r: r)
    x, r, found, model = _start(B, b, x0)
    if found.outcome is Outcome.NON_FINITE:
        return found
    u = M(r)
    reference = (b, M(b) if x0 is not None else u)
    p = s = torch.zeros_like(b)
    gamma_old = alpha = scale = math.inf
    p_most = x_most = 0.0  # bounds of |p| and |x|, from sums: all workers see x overflow, or none
    most = torch.finfo(b.dtype).max
    models: list[float] = []
    for i in range(iterations):
        pairs = [(r, u), (u, u), *([reference, (x, x)] if i == 0 else [])]
        Bu, (delta, gamma, uu, *first) = B.product(u, against=[u], pairs=pairs)
        if i == 0:
            scale, x_most = first[0], math.sqrt(first[1])
        found.products += 1
        outcome = _verdict(gamma, delta, tolerance**2 * scale)
        if outcome is not None:
            found.outcome = outcome
            break
        beta = gamma / gamma_old if i else 0.0
        curvature = delta - beta * gamma / alpha if i else delta
        p, s = u + beta * p, Bu + beta * s
        found.curvatures.append(curvature)
        if curvature <= 0:
            found.outcome, found.negative = Outcome.NEGATIVE_CURVATURE, p
            break
        alpha, gamma_old = gamma / curvature, gamma
        p_most = math.sqrt(uu) + beta * p_most
        x_most += alpha * p_most
        if not x_most < most:
            found.outcome = Outcome.NON_FINITE
            break
        x, r = x + alpha * p, r - alpha * s
        u = M(r)
        model -= alpha * gamma / 2
        models.append(model)
        found.iterations += 1
        found.record(x, model, last=False)
        if stagnates(models, progress):
            found.outcome = Outcome.STAGNATION
            break
    found.record(found.x, model, last=True)
    return found


def _verdict(gamma: float, delta: float, negligible: float) -> Outcome | None:
    """Whether r.u and u.Bu end the solve."""
    if not math.isfinite(delta + gamma):
        return Outcome.NON_FINITE
    if abs(gamma) <= abs(negligible):
        return Outcome.CONVERGED
    return Outcome.INDEFINITE if gamma < 0 else None


def _start(B: Matrix, b: Tensor, x0: Tensor | None) -> tuple[Tensor, Tensor, Solution, float]:
    """x, r = b - B x, the empty solution, m(x)."""
    if x0 is None:
        x = torch.zeros_like(b)
        return x, b, Solution(x), 0.0
    Bx, (xBx, xb) = as_operator(B).product(x0, against=[x0], pairs=[(x0, b)])
    found = Solution(x0, products=1)
    if not (math.isfinite(xBx) and math.isfinite(xb)):
        found.outcome = Outcome.NON_FINITE
    return x0, b - Bx, found, xBx / 2 - xb
