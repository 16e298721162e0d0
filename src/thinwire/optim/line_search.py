"""How far to go along a direction, by Armijo's rule (H Algorithm 2, line 8)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from thinwire.curvature import NOTHING, Cost, Evaluation, Workers
from thinwire.optim.point import Point
from thinwire.optim.problem import Summands
from thinwire.search import Direction, largest_sufficient, lowest_sufficient, sufficient

SHORTER = tuple(0.5**j for j in range(1, 11))
"""Trial steps after alpha = 1 has failed, all in one sweep."""
ANY_LENGTH = tuple(2.0**j for j in range(-8, 5))
"""Trial steps along a direction whose length means nothing."""


@dataclass(frozen=True, eq=False)
class Trial:
    """The outcome of a line search.

    Attributes:
        alpha: the step length; 0 where no step was acceptable.
        theta: theta + alpha d, [P].
        loss: f there.
        direction: d, the one that all workers took.
        trials: step lengths whose loss was computed.
        first: what the full step's loss took, with what else was computed there.
        shorter: what the other lengths' losses took.
        point: what else is known at theta, if its gradient was computed.
        note: what people should know of it.
    """

    alpha: float
    theta: Tensor
    loss: float
    direction: Direction
    trials: int
    first: Cost
    shorter: Cost = NOTHING
    point: Point | None = None
    note: str = ""


def search(
    start: Point,
    direction: Direction,
    full: Summands,
    at: Callable[[Direction], Evaluation[tuple[Point, Direction]]] | None,
    workers: Workers,
) -> Trial:
    """Try the full step, then all others in one sweep and one small sum.

    The full step's trial also computes the gradient: if it is accepted, the next iteration has it
    for nothing.

    Args:
        start: where the direction begins.
        direction: where to go.
        full: this worker's share of all samples.
        at: evaluates the end of a direction, and tells which one all workers take; None if the
            next iteration has no use for the gradient there.
        workers: who holds the samples.
    """
    point, note = None, ""
    if at is not None:
        end = at(direction)
        (point, direction), first, note = end.result, end.cost, end.note
        theta, loss = point.theta, point.loss
    else:
        theta = start.theta + direction.d
        tried = losses_at([theta], full, workers)
        (loss,), first = tried.result, tried.cost
    if direction.kind == "none":
        return Trial(0.0, theta, loss, direction, 1, first, point=point, note=note)
    if sufficient(start.loss, loss, 1.0, direction):
        return Trial(1.0, theta, loss, direction, 1, first, point=point, note=note)
    alphas = SHORTER if direction.kind == "newton" else ANY_LENGTH
    # Multiplied before it is added: one rounding each, on any processor.
    thetas = [start.theta + alpha * direction.d for alpha in alphas]
    tried = losses_at(thetas, full, workers)
    trials, losses = 1 + len(alphas), tried.result
    pick = largest_sufficient if direction.kind == "newton" else lowest_sufficient
    i = pick(start.loss, losses, alphas, direction)
    if i is None:
        return Trial(
            0.0, start.theta, start.loss, direction, trials, first, tried.cost, start, note
        )
    return Trial(alphas[i], thetas[i], losses[i], direction, trials, first, tried.cost, note=note)


def losses_at(
    thetas: Sequence[Tensor], full: Summands, workers: Workers
) -> Evaluation[list[float]]:
    """The objective at several points, in one sweep and one small sum."""
    summed = workers.sum_numbers(full.losses(thetas), "trial losses")
    return Evaluation(summed.result, Cost(losses=len(thetas)) + summed.cost)
