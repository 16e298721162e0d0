"""Bi-CG-STAB for B x = b with B symmetric and indefinite (H Algorithm 3; Saad 2003).

Two products and three reductions for each iteration: one in each product and a small one for the
stabilising step. The symbols are H's, with omega for its second step length.

Where the stabilising step hardly shortens s (|cos(s, t)| is small), the new residual is nearly
orthogonal to the shadow residual. rho, their inner product, then has few correct digits, and so
have the alpha and beta made of it: rounding is amplified from iteration to iteration. A longer step
than the one with the smallest residual keeps the digits (Sleijpen and Van der Vorst, *Maintaining
convergence properties of BiCGstab methods in finite precision arithmetic*, 1995); see
``least_cosine``, and docs/hessian-free.md for what it does to training.
"""

import math

import torch
from torch import Tensor

from thinwire.solve.operator import Matrix, Operator, as_operator
from thinwire.solve.preconditioner import Preconditioner
from thinwire.solve.solution import Outcome, Solution, stagnates


def bicgstab(
    B: Matrix,
    b: Tensor,
    *,
    x0: Tensor | None = None,
    preconditioner: Preconditioner | None = None,
    iterations: int = 25,
    tolerance: float = 1e-10,
    progress: float = 5e-4,
    least_cosine: float = 0.0,
) -> Solution:
    """Solve B x = b without minding the signs of B's eigenvalues.

    Args:
        B: a symmetric matrix as a function v -> B v, or an ``Operator``.
        b: [P], the right-hand side.
        x0: [P], where to begin; zero by default.
        preconditioner: r -> M r, M near the inverse of B (applied on the right).
        iterations: at most so many, of two products each.
        tolerance: of |r| / |b|; the outcome is then ``CONVERGED``.
        progress: least relative progress of the model per iteration, see ``stagnates``.
        least_cosine: kappa, 0 to below 1: where |cos(s, t)| is smaller, the stabilising step is
            taken as long as if it were kappa. 0 is H's method, whose step leaves the smallest
            residual; 0.7 keeps digits (Sleijpen and Van der Vorst 1995), and no stabilising step
            vanishes then.

    Returns:
        The solution. ``curvatures`` holds p.Bp and s.Bs of every iteration (preconditioned
        directions). A breakdown is an outcome; iterates before it are kept.

    Raises:
        ValueError: ``least_cosine`` is out of range.
    """
    if not 0 <= least_cosine < 1:
        raise ValueError(f"least_cosine: expected 0 to below 1, got {least_cosine}")
    B, M = as_operator(B), preconditioner or (lambda r: r)
    state = _State(B, b, x0, least_cosine)
    found = state.found
    models: list[float] = []
    outcome = state.verdict(tolerance)
    while outcome is None:
        if found.iterations == iterations:
            outcome = Outcome.ITERATION_LIMIT
            break
        outcome = state.advance(M)
        if outcome in (None, Outcome.BREAKDOWN_OMEGA):
            models.append(state.model)
            found.iterations += 1
            found.record(state.x, state.model, last=False)
            outcome = state.verdict(tolerance) or outcome
        if outcome is None and stagnates(models, progress):
            outcome = Outcome.STAGNATION
    found.outcome = outcome
    found.record(found.x, models[-1] if models else state.model, last=True)
    return found


class _State:
    """The vectors and scalars of one solve: r is b - B x, r_0* (``shadow``) the first r."""

    def __init__(self, B: Operator, b: Tensor, x0: Tensor | None, least_cosine: float) -> None:
        self.B, self.b, self.least_cosine = B, b, least_cosine
        self.epsilon = 16 * torch.finfo(b.dtype).eps  # cosines below it are rounding
        self.most = torch.finfo(b.dtype).max
        # |r|^2 may grow so much: rounding, eps |r|, stays below sqrt(eps) of the first residual.
        self.largest = 1 / torch.finfo(b.dtype).eps
        self.x = torch.zeros_like(b) if x0 is None else x0
        self.found = Solution(self.x)
        self.r = b
        if x0 is not None:
            self.r = b - B.product(x0)[0]
            self.found.products = 1
        self.shadow = self.p = self.r
        start = B.dots([(self.r, self.r), (b, b), (self.x, b), (self.x, self.r)])
        self.rr, self.bb, xb, xr = start
        self.rho, self.shadow_norm = self.rr, self.rr
        self.model = -(xb + xr) / 2

    def verdict(self, tolerance: float) -> Outcome | None:
        """Whether the residual ends the solve."""
        if not math.isfinite(self.rr + self.rho):
            return Outcome.NON_FINITE
        return Outcome.CONVERGED if self.rr <= tolerance**2 * self.bb else None

    def advance(self, M: Preconditioner) -> Outcome | None:
        """One iteration; an outcome if it could not be completed."""
        y = M(self.p)
        v, (v_shadow, yBy) = self.B.product(y, against=[self.shadow, y])
        self.found.products += 1
        if not math.isfinite(v_shadow + yBy):
            return Outcome.NON_FINITE
        self.found.curvatures.append(yBy)
        if abs(self.rho) <= self.epsilon * math.sqrt(self.rr * self.shadow_norm) or v_shadow == 0:
            return Outcome.BREAKDOWN_RHO
        alpha = self.rho / v_shadow
        s = self.r - alpha * v
        z = M(s)
        t, (zBz, ts) = self.B.product(z, against=[z, s])
        self.found.products += 1
        x_half = self.x + alpha * y
        pairs = [(x_half, x_half), (z, z), (t, t), (t, self.shadow), (s, self.shadow), (s, s)]
        pairs += [(w, q) for w in (x_half, z) for q in (self.b, s, t)]
        xx, zz, tt, t_shadow, s_shadow, ss, xb, xs, xt, zb, zs, zt = self.B.dots(pairs)
        if not math.isfinite(tt + zBz + ss):
            return Outcome.NON_FINITE
        self.found.curvatures.append(zBz)
        if self.largest * self.shadow_norm < ss:  # v.shadow was little more than rounding
            return Outcome.BREAKDOWN_RHO
        omega = self._stabilising_length(tt, ts, ss)
        # m(x) = -x.(b + r)/2 with x = x_half + omega z and r = s - omega t
        model = -(xb + xs - omega * xt + omega * (zb + zs - omega * zt)) / 2
        size = math.sqrt(xx) + abs(omega) * math.sqrt(zz)  # at least |x|
        if not (math.isfinite(model) and size < self.most):
            return Outcome.NON_FINITE
        self.x, self.r, self.model = x_half + omega * z, s - omega * t, model
        self.rr = ss - 2 * omega * ts + omega**2 * tt
        if self.rr <= 64 * self.epsilon * ss:  # all digits cancelled
            (self.rr,) = self.B.dots([(self.r, self.r)])
        rho_old, self.rho = self.rho, s_shadow - omega * t_shadow
        if omega == 0 and ss > 0:
            return Outcome.BREAKDOWN_OMEGA
        if omega != 0:
            beta = self.rho / rho_old * alpha / omega
            self.p = self.r + beta * (self.p - omega * v)
        return None

    def _stabilising_length(self, tt: float, ts: float, ss: float) -> float:
        """Return omega of the step s - omega t: the shortest s, or longer by ``least_cosine``."""
        together = math.sqrt(tt * ss)
        omega = 0.0 if abs(ts) <= self.epsilon * together else ts / tt
        if abs(ts) < self.least_cosine * together:
            return math.copysign(self.least_cosine * math.sqrt(ss / tt), omega)
        return omega
