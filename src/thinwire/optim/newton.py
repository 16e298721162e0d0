"""The parts of one Hessian-free iteration: solve, choose, search (H Algorithm 2, lines 5-8).

Every scalar on which a branch is taken is a sum over workers. In a replicated solve it is computed
by each worker from the same samples instead; ``evaluate`` proves that all came to the same step
before any takes it, which is why every search begins with it, whatever was found.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from thinwire.curvature import CurvatureOperator, FisherKind, FlatParameters, StripedOperator
from thinwire.exchange import CodedSum, Wire, all_reduce
from thinwire.search import Direction, largest_sufficient, lowest_sufficient, sufficient, turned
from thinwire.solve import Preconditioner, Solution, bicgstab, cg, most_negative

Method = Literal["gauss-newton", "bicgstab", "hybrid", "cg"]

Matrix = CurvatureOperator | StripedOperator

SHORTER = tuple(0.5**j for j in range(1, 11))
"""Trial steps after alpha = 1 has failed, all in one sweep."""
ANY_LENGTH = tuple(2.0**j for j in range(-8, 5))
"""Trial steps along a direction whose length means nothing."""
PROBE_PRODUCTS = 20


class Sums(Protocol):
    """A worker's summands of means over samples; see ``thinwire.curvature.Samples``."""

    def gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """Of the loss and its gradient."""
        ...

    def losses(self, thetas: Sequence[Tensor]) -> list[float]:
        """Of the loss at several points."""
        ...

    def fisher(self, theta: Tensor, kind: FisherKind) -> Tensor:
        """Of the empirical Fisher matrix."""
        ...

    def hessian(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Of the Hessian's products."""
        ...

    def gauss_newton(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Of the Gauss-Newton matrix's products."""
        ...


class Problem(Protocol):
    """What is minimised, as one worker sees it."""

    total: int
    lasting: bool  # the next iteration minimises the same function

    @property
    def model(self) -> FlatParameters:
        """The parameters."""
        ...

    def full(self) -> Sums:
        """This worker's share of all samples."""
        ...

    def batch(self, numbers: Tensor, *, replicated: bool) -> Sums:
        """This worker's part of the samples of these numbers, or all of them."""
        ...


@dataclass(frozen=True, eq=False)
class Point:
    """What is known at theta.

    Attributes:
        theta: [P].
        loss: f, over all samples.
        gradient: g, over all samples, [P].
        fisher: of the curvature batch, if it rode along with the gradient.
    """

    theta: Tensor
    loss: float
    gradient: Tensor
    fisher: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """The outcome of a line search.

    Attributes:
        alpha: the step length; 0 where no step was acceptable.
        theta: theta + alpha d, [P].
        loss: f there.
        point: what else is known there, if its gradient was computed.
        gradients: how many losses over all samples were computed with their gradient.
        losses: how many without.
    """

    alpha: float
    theta: Tensor
    loss: float
    point: Point | None = None
    gradients: int = 0
    losses: int = 0


def evaluate(
    theta: Tensor,
    full: Sums,
    fisher: Callable[[Tensor], Tensor] | None,
    wire: Wire,
    coded: CodedSum | None = None,
    direction: Direction | None = None,
) -> Point | None:
    """f, g and what rides along, at one theta: one reduction of vectors.

    The reduction also proves that theta, and the direction that led there, are the same everywhere.

    Args:
        theta: [P].
        full: this worker's share of all samples.
        fisher: computes this worker's summand of the Fisher matrix, which then rides along.
        wire: the workers.
        coded: sums the gradient by a code; what rides along then has a reduction of its own.
        direction: what theta is a trial of.

    Returns:
        The point; None, on every worker alike, if they hold different thetas or directions.
    """
    loss, gradient = full.gradient(theta)
    prints = _fingerprint(theta, direction) if wire.world > 1 else []
    summands = [] if coded else [gradient]
    summands += [fisher(theta)] if fisher else []
    message = torch.cat(summands) if summands else gradient.new_empty(0)
    total, (loss, *sums) = all_reduce(message, [loss, *prints], wire, "gradient")
    if not _all_alike(prints, sums, wire.world):
        return None
    if coded:
        return Point(theta, loss, coded(gradient, "gradient"), total if fisher else None)
    size = len(theta)
    return Point(theta, loss, total[:size], total[size:] if fisher else None)


def _fingerprint(theta: Tensor, direction: Direction | None) -> list[float]:
    """Eight 6-bit hashes h of what must be the same on every worker, each with its square.

    So small that their sums over 4096 workers are exact in float32.
    """
    digest = hashlib.blake2b(theta.cpu().numpy().tobytes(), digest_size=8)
    if direction is not None:
        digest.update(repr((direction.kind, direction.numbers)).encode())
    return [float(n) for byte in digest.digest() for n in (byte % 64, (byte % 64) ** 2)]


def _all_alike(own: Sequence[float], sums: Sequence[float], world: int) -> bool:
    """Whether all hashes are this worker's: sum h = K h and sum h^2 = K h^2 leave no variance.

    If they are not all alike, no worker finds them so.
    """
    return all(total == world * h for h, total in zip(own, sums, strict=True))


def solve(
    method: Method,
    B: Matrix,
    gradient: Tensor,
    start: Tensor | None,
    preconditioner: Preconditioner | None,
    iterations: int,
    least_cosine: float = 0.0,
) -> Solution:
    """Minimise m(d) = g.d + d.Bd / 2 by the method's solver, from a warm start or from zero."""
    solver = partial(bicgstab, least_cosine=least_cosine) if method == "bicgstab" else cg
    return solver(B, -gradient, x0=start, preconditioner=preconditioner, iterations=iterations)


def candidates(
    method: Method, B: Matrix, gradient: Tensor, solution: Solution
) -> tuple[list[Direction], float]:
    """Directions of descent among the iterates, and g.g. One small reduction.

    Bi-CG-STAB's iterates are turned downhill (H); conjugate gradients' are dropped if they go
    uphill, which only those near a warm start do.
    """
    iterates = solution.iterates
    pairs = [(gradient, gradient)]
    pairs += [pair for it in iterates for pair in ((gradient, it.x), (it.x, it.x))]
    g_square, *rest = B.dots(pairs)
    known = list(zip(iterates, rest[::2], rest[1::2], strict=True))
    if method != "bicgstab":
        known = [(iterate, slope, square) for iterate, slope, square in known if slope < 0]
    return turned(known, damping=B.damping, gradient_square=g_square), g_square


def choose(
    found: Sequence[Direction], B: Matrix, theta: Tensor, batch: Sums, wire: Wire
) -> Direction | None:
    """The direction with the lowest loss over the curvature batch at its end (CG-backtracking).

    All losses are summed in one small reduction. Where the solver holds parts of vectors, each
    direction is gathered for its loss, and the chosen one once more.

    Returns:
        The direction, whole; None if no loss is finite.
    """
    if B.whole(found[0].d) is found[0].d:
        summands = batch.losses([theta + direction.d for direction in found])
    else:  # one at a time: memory is short
        summands = [batch.losses([theta + B.whole(d.d)])[0] for d in found]
    losses = wire.sum(torch.tensor(summands, dtype=torch.float64), "candidate losses")
    if not losses.isfinite().any():
        return None
    chosen = found[int(losses.nan_to_num(nan=torch.inf, neginf=torch.inf).argmin())]
    return replace(chosen, d=B.whole(chosen.d))


def probe(B: Matrix, gradient: Tensor, theta: Tensor, seed: int) -> Direction | None:
    """Where a random vector finds negative curvature of the undamped matrix; None if nowhere."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(len(theta), generator=generator, dtype=theta.dtype).to(theta.device)
    value, part = most_negative(B, B.part(random), iterations=PROBE_PRODUCTS)
    curvature = value - B.damping
    here = B.part(theta)
    slope, size = B.dots([(B.part(gradient), part), (here, here)])
    if curvature >= 0:
        return None
    scale = max(1.0, size**0.5) / 16
    d = (-scale if slope >= 0 else scale) * B.whole(part)
    return Direction(d, -abs(slope) * scale, curvature * scale**2, scale**2, B.damping, "probe")


def search(
    start: Point,
    direction: Direction,
    full: Sums,
    at: Callable[[Direction], tuple[Point, Direction]] | None,
    wire: Wire,
) -> tuple[Trial, Direction]:
    """Armijo's rule.

    The first trial, alpha = 1, also computes the gradient: if it is accepted, the next iteration
    has it for nothing. All others are computed in one sweep and summed in one small reduction.

    Args:
        start: where the direction begins.
        direction: where to go.
        full: this worker's share of all samples.
        at: evaluates the end of a direction, and tells which one all workers take; None if the
            next iteration has no use for the gradient there.
        wire: the workers.

    Returns:
        The trial, and the direction that all workers took.
    """
    point, gradients, tried = None, 0, 0
    if at is not None:
        (point, direction), gradients = at(direction), 1
        theta, loss = point.theta, point.loss
    else:
        theta, tried = start.theta + direction.d, 1
        (loss,) = _losses([theta], full, wire)
    if direction.kind == "none":
        return Trial(0.0, theta, loss, point, gradients, tried), direction
    if sufficient(start.loss, loss, 1.0, direction):
        return Trial(1.0, theta, loss, point, gradients, tried), direction
    alphas = SHORTER if direction.kind == "newton" else ANY_LENGTH
    # Multiplied before it is added: one rounding each, on any processor.
    thetas = [start.theta + alpha * direction.d for alpha in alphas]
    losses = _losses(thetas, full, wire)
    tried += len(alphas)
    pick = largest_sufficient if direction.kind == "newton" else lowest_sufficient
    i = pick(start.loss, losses, alphas, direction)
    if i is None:
        return Trial(0.0, start.theta, start.loss, start, gradients, tried), direction
    return Trial(alphas[i], thetas[i], losses[i], None, gradients, tried), direction


def _losses(thetas: Sequence[Tensor], full: Sums, wire: Wire) -> list[float]:
    """Losses at several points, in one sweep and one small reduction."""
    summands = torch.tensor(full.losses(thetas), dtype=torch.float64)
    losses: list[float] = wire.sum(summands, "trial losses").tolist()
    return losses
