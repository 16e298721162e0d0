"""The solve of a Newton-type system, and what its step teaches (H Algorithm 2)."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from thinwire.curvature import Cost
from thinwire.optim.line_search import Trial
from thinwire.optim.newton_options import Method, NewtonOptions
from thinwire.search import Direction, after_failure, after_step
from thinwire.solve import Operator, Outcome, Preconditioner, Solution, bicgstab, cg

TRUSTED = 0.25  # least reduction ratio after which a step warm-starts the next solve


def solve(
    method: Method,
    B: Operator,
    gradient: Tensor,
    start: Tensor | None,
    preconditioner: Preconditioner | None,
    iterations: int,
    least_cosine: float,
) -> Solution:
    """Minimise m(d) = g.d + d.Bd / 2 by the method's solver, from a warm start or from zero."""
    solver = partial(bicgstab, least_cosine=least_cosine) if method == "bicgstab" else cg
    return solver(B, -gradient, x0=start, preconditioner=preconditioner, iterations=iterations)


@dataclass(frozen=True, eq=False)
class Solved:
    """The outcome of a solve, its graphs gone.

    Attributes:
        solution: the solver's.
        direction: where to go.
        matrix: "gauss-newton" or "hessian".
        prepared: what the preconditioner took.
        cost: what drawing the batch, the solve and the choice of the direction took.
        note: what people should know of it.
    """

    solution: Solution
    direction: Direction
    matrix: str
    prepared: Cost
    cost: Cost
    note: str


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a step teaches for the next.

    Attributes:
        damping: the next lambda.
        ratio: decrease over what the quadratic model foretold; None where it foretold none.
        step: a step to start the next solve from, [P], if this one was good.
        gauss_newton_next: the hybrid method takes the Gauss-Newton matrix next.
        moved: whether there was a step at all.
    """

    damping: float
    ratio: float | None
    step: Tensor | None
    gauss_newton_next: bool
    moved: bool


def learn(
    options: NewtonOptions, damping: float, loss_before: float, trial: Trial, solution: Solution
) -> Lesson:
    """The reduction ratio, and with it damping, warm start and the hybrid's next matrix."""
    met = any(curvature <= 0 for curvature in solution.curvatures)
    again = options.method == "hybrid" and met
    direction = trial.direction
    if direction.kind == "none":
        return Lesson(damping, None, None, again, moved=False)
    if trial.alpha == 0:
        return Lesson(after_failure(damping), None, None, again, moved=False)
    ratio, foretold = None, direction.model(trial.alpha)
    if direction.kind == "newton" and foretold < 0:
        ratio = (trial.loss - loss_before) / foretold
    if options.adapt_damping:
        unused = solution.outcome is Outcome.NEGATIVE_CURVATURE
        damping = after_step(damping, ratio, hesitant=trial.alpha < 1 or unused)
    good = ratio is not None and ratio > TRUSTED and trial.alpha == 1 and options.warm_start
    return Lesson(damping, ratio, direction.d if good else None, again, moved=True)
