"""The report of one Hessian-free iteration."""

from dataclasses import dataclass

from thinwire.curvature import Evaluation
from thinwire.optim.line_search import Trial
from thinwire.optim.newton import Lesson, Solved
from thinwire.optim.newton_state import Carried
from thinwire.optim.point import Point


@dataclass(frozen=True)
class HessianFreeStep:
    """What one iteration did; the same on every worker.

    Attributes:
        iteration: its number, from 1.
        loss_before: the objective where it began.
        loss: the objective where it ended.
        alpha: step length; 0 if no step was acceptable.
        damping: lambda for the next iteration.
        ratio: decrease over what the quadratic model foretold; None where it foretold none.
        kind: "newton", "negative curvature", "probe", "gradient", or "none" at a stationary point.
        matrix: "gauss-newton" or "hessian".
        outcome: why the solver stopped, in words.
        solver_iterations: of the solver.
        products: curvature products, those of a probe included.
        negative: search directions of negative curvature met by the solver.
        candidates: iterates whose loss over the curvature batch was computed.
        trials: evaluations of the objective for the line search.
        passes: effective passes over the data so far, over all workers: 1 for a gradient or a
            trial, b / n for a product, candidate or Fisher matrix over a batch of b of n samples.
        note: what else there is to know, such as how "auto" decided.
        vector_sums: collectives of this iteration that carried something as long as the model.
        small_sums: collectives of this iteration that carried a few numbers.
    """

    iteration: int
    loss_before: float
    loss: float
    alpha: float
    damping: float
    ratio: float | None
    kind: str
    matrix: str
    outcome: str
    solver_iterations: int
    products: int
    negative: int
    candidates: int
    trials: int
    passes: float
    note: str = ""
    vector_sums: int = 0
    small_sums: int = 0


def report(
    after: Carried, start: Evaluation[Point], solved: Solved, trial: Trial, lesson: Lesson
) -> HessianFreeStep:
    """What an iteration did, of the values it was made of.

    Args:
        after: what it leaves to the next.
        start: where it began.
        solved: the solve.
        trial: the line search.
        lesson: what was learnt.
    """
    solution, notes = solved.solution, (start.note, solved.note, trial.note)
    cost = start.cost + solved.prepared + solved.cost + trial.first + trial.shorter
    return HessianFreeStep(
        iteration=after.iteration,
        loss_before=start.result.loss,
        loss=trial.loss,
        alpha=trial.alpha,
        damping=lesson.damping,
        ratio=lesson.ratio,
        kind=trial.direction.kind,
        matrix=solved.matrix,
        outcome=str(solution.outcome),
        solver_iterations=solution.iterations,
        products=cost.products,
        negative=sum(curvature <= 0 for curvature in solution.curvatures),
        candidates=cost.batch_losses,
        trials=trial.trials,
        passes=after.passes,
        note="; ".join(note for note in notes if note),
        vector_sums=cost.vector_sums,
        small_sums=cost.small_sums,
    )
