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

from thinwire.solve.operator import Matrix, Operator, as_operator
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
    state = _State(as_operator(B), b, x0, preconditioner or (lambda r: r))
    found, models = state.found, list[float]()
    outcome = None if math.isfinite(state.model) else Outcome.NON_FINITE
    while outcome is None:
        if found.iterations == iterations:
            outcome = Outcome.ITERATION_LIMIT
            break
        outcome = state.advance(tolerance)
        if outcome is None:
            found.iterations += 1
            models.append(state.model)
            found.record(state.x, state.model, last=False)
            outcome = Outcome.STAGNATION if stagnates(models, progress) else None
    found.outcome = outcome
    found.record(found.x, state.model, last=True)
    return found


class _State:
    """The vectors and scalars of one solve, by the names of the module's equations."""

    def __init__(self, B: Operator, b: Tensor, x0: Tensor | None, M: Preconditioner) -> None:
        self.B, self.M = B, M
        self.x, self.r, self.model = torch.zeros_like(b), b, 0.0
        self.found = Solution(self.x)
        if x0 is not None:
            Bx, (xBx, xb) = B.product(x0, against=[x0], pairs=[(x0, b)])
            self.x, self.r, self.model = x0, b - Bx, xBx / 2 - xb
            self.found = Solution(x0, products=1)
        self.u = M(self.r)
        self.p = self.s = torch.zeros_like(b)
        self.first = [(b, M(b) if x0 is not None else self.u), (self.x, self.x)]
        self.gamma = self.alpha = math.inf
        # Bounds of |p| and |x|, from sums: all workers see x overflow, or none does.
        self.p_most = self.x_most = 0.0
        self.most = torch.finfo(b.dtype).max

    def advance(self, tolerance: float) -> Outcome | None:
        """One iteration; an outcome if it could not be completed."""
        begins, u = math.isinf(self.gamma), self.u
        pairs = [(self.r, u), (u, u), *(self.first if begins else [])]
        Bu, (delta, gamma, uu, *first) = self.B.product(u, against=[u], pairs=pairs)
        self.found.products += 1
        if begins:
            self.negligible, self.x_most = tolerance**2 * abs(first[0]), math.sqrt(first[1])
        if not math.isfinite(delta + gamma):
            return Outcome.NON_FINITE
        if abs(gamma) <= self.negligible:
            return Outcome.CONVERGED
        if gamma < 0:
            return Outcome.INDEFINITE
        beta = 0.0 if begins else gamma / self.gamma
        curvature = delta if begins else delta - beta * gamma / self.alpha
        self.p, self.s = u + beta * self.p, Bu + beta * self.s
        self.found.curvatures.append(curvature)
        if curvature <= 0:
            self.found.negative = self.p
            return Outcome.NEGATIVE_CURVATURE
        alpha = gamma / curvature
        self.p_most = math.sqrt(uu) + beta * self.p_most
        self.x_most += alpha * self.p_most
        if not self.x_most < self.most:
            return Outcome.NON_FINITE
        self.x, self.r = self.x + alpha * self.p, self.r - alpha * self.s
        self.u = self.M(self.r)
        self.model -= alpha * gamma / 2
        self.alpha, self.gamma = alpha, gamma
        return None
