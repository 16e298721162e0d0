"""Where to go: from a solver's iterates to one direction of descent (H Algorithm 2, lines 5-7)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from thinwire.curvature import Cost, CurvatureOperator, Evaluation, StripedOperator, Workers
from thinwire.optim.newton_options import Method
from thinwire.optim.point import Point
from thinwire.optim.problem import Summands
from thinwire.search import Direction, turned
from thinwire.solve import Solution, most_negative

PROBE_PRODUCTS = 20

CurvatureMatrix = CurvatureOperator | StripedOperator


def descend(
    method: Method,
    B: CurvatureMatrix,
    start: Point,
    solution: Solution,
    batch: Summands,
    workers: Workers,
    seed: int | None,
) -> Evaluation[Direction]:
    """The best direction among a solver's iterates, or what there is in their place.

    Args:
        method: tells what becomes of iterates that go uphill.
        B: the matrix; what it computes is added to its own cost.
        start: where the direction begins.
        solution: the solver's.
        batch: this worker's part of the curvature batch.
        workers: among which the curvature batch is spread.
        seed: of a probe for negative curvature, where the model promises nothing; None: no probe.
    """
    found, g_square = candidates(method, B, B.part(start.gradient), solution)
    negligible = torch.finfo(start.theta.dtype).eps * abs(start.loss)
    if all(direction.model(1.0) >= -negligible for direction in found):
        # Nothing to gain by the model: a stationary point, maybe a saddle.
        escape = None if seed is None else probe(B, start.gradient, start.theta, seed)
        if escape is not None:
            return Evaluation(escape)
        if found or g_square == 0:
            nowhere = torch.zeros_like(start.theta)
            return Evaluation(Direction(nowhere, 0.0, 0.0, 0.0, B.damping, "none"))
    steepest = Direction(-start.gradient, -g_square, 0.0, g_square, B.damping, "gradient")
    if not found:  # the solver came to nothing
        return Evaluation(steepest)
    best = lowest(found, B, start.theta, batch, workers)
    return Evaluation(best.result or steepest, best.cost)


def candidates(
    method: Method, B: CurvatureMatrix, gradient: Tensor, solution: Solution
) -> tuple[list[Direction], float]:
    """Directions of descent among the iterates, and g.g. One small sum.

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


def lowest(
    found: Sequence[Direction],
    B: CurvatureMatrix,
    theta: Tensor,
    batch: Summands,
    workers: Workers,
) -> Evaluation[Direction | None]:
    """The direction with the lowest loss over the curvature batch at its end (CG-backtracking).

    All losses are summed in one small sum. Where the solver holds parts of vectors, each
    direction is gathered for its loss, and the chosen one once more.

    Returns:
        The direction, whole; None if no loss is finite.
    """
    if B.whole(found[0].d) is found[0].d:
        summands = batch.losses([theta + direction.d for direction in found])
    else:  # one at a time: memory is short
        summands = [batch.losses([theta + B.whole(d.d)])[0] for d in found]
    summed = workers.sum_numbers(summands, "candidate losses")
    cost = Cost(batch_losses=len(found)) + summed.cost
    losses = torch.tensor(summed.result, dtype=torch.float64, device="cpu")
    if not losses.isfinite().any():
        return Evaluation(None, cost)
    chosen = found[int(losses.nan_to_num(nan=torch.inf, neginf=torch.inf).argmin())]
    return Evaluation(replace(chosen, d=B.whole(chosen.d)), cost)


def probe(B: CurvatureMatrix, gradient: Tensor, theta: Tensor, seed: int) -> Direction | None:
    """Where a random vector finds negative curvature of the undamped matrix; None if nowhere.

    It is drawn on the CPU, so that it is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(len(theta), generator=generator, dtype=theta.dtype, device="cpu")
    random = random.to(theta.device)
    value, part = most_negative(B, B.part(random), iterations=PROBE_PRODUCTS)
    curvature = value - B.damping
    here = B.part(theta)
    slope, size = B.dots([(B.part(gradient), part), (here, here)])
    if curvature >= 0:
        return None
    scale = max(1.0, size**0.5) / 16
    d = (-scale if slope >= 0 else scale) * B.whole(part)
    return Direction(d, -abs(slope) * scale, curvature * scale**2, scale**2, B.damping, "probe")
