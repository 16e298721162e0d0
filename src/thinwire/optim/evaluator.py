"""What one worker computes of an objective, together with the others."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.curvature import (
    Cost,
    CurvatureOperator,
    Evaluation,
    FlatModel,
    FlatParameters,
    StripedOperator,
    Workers,
    all_finite,
)
from thinwire.exchange import CodedSum, copy_entry
from thinwire.optim.closure import Closure, ClosureProblem
from thinwire.optim.descent import CurvatureMatrix, descend
from thinwire.optim.line_search import Trial, search
from thinwire.optim.newton_options import Curvature, NewtonOptions
from thinwire.optim.objective import Objective, SharedObjective, draw, draw_seed
from thinwire.optim.placement import faster
from thinwire.optim.point import Point, evaluate
from thinwire.optim.preconditioning import FisherForm, first_that_fits, fisher_forms, told
from thinwire.optim.problem import Problem, Summands
from thinwire.quantize import stage_codes
from thinwire.search import KINDS, Direction
from thinwire.solve import Preconditioner, Solution

DIFFERED = "workers' steps differed by rounding; worker 0's was taken"


class Evaluator:
    """Evaluations of the present objective: each returns its result with what it cost.

    What is kept here serves only not to compute a thing twice: the objective as this worker sees
    it, the latest curvature batch, and the residuals of sums by a code.

    On the host are read, of each iteration: whether the parameters are those of the last one; one
    number for each sum of losses, all points and chunks together; the inner products of each
    curvature product, and those of all candidates; whether the Fisher matrix is finite; with
    several workers theta, for its hash, and the sums themselves. Cross entropy looks for ignored
    targets once in each recorded graph.

    Args:
        parameters: what is trained.
        workers: among whom the samples are spread.
        options: see ``HessianFree``.

    Attributes:
        curvature: "replicated" or "sharded"; "auto" until the first objective has settled it.
        problem: the present objective as this worker sees it.
    """

    problem: Problem

    def __init__(
        self, parameters: Sequence[Parameter], workers: Workers, options: NewtonOptions
    ) -> None:
        self._parameters, self._workers, self._options = list(parameters), workers, options
        self.curvature: Curvature = options.curvature
        self._striped = options.solver_vectors == "sharded" and workers.world > 1
        self._coded = self._coded_sum("gradient_code", feedback=True)
        self._coded_products = self._coded_sum("product_code", feedback=False)
        self._seen: tuple[Objective, SharedObjective, FisherForm | None] | None = None
        self._form: FisherForm | None = None
        self._drawn: tuple[int, Summands] | None = None

    # --- what is evaluated ----------------------------------------------------------------------

    def take(self, objective: Objective | Closure) -> Evaluation[Problem]:
        """Make an objective the present one.

        Raises:
            ValueError: it does not go with the preconditioner.
        """
        option = self._options.preconditioner
        if not isinstance(objective, Objective) and not callable(objective):
            raise TypeError(
                "objective: expected a thinwire.Objective, or a closure that returns (loss, "
                f"outputs), got {type(objective).__name__}"
            )
        if not isinstance(objective, Objective):
            if option not in ("auto", "none"):
                raise ValueError(
                    f"preconditioner: {option!r} needs the samples' own gradients, "
                    'which a closure does not give; pass an Objective, or choose "none"'
                )
            flat = FlatParameters(self._parameters)
            self.problem, self._form = ClosureProblem(objective, flat, self._workers), None
            return Evaluation(self.problem, self.problem.cost)
        if self._seen is None or self._seen[0] is not objective:
            model = FlatModel(objective.model, self._parameters)
            forms = fisher_forms(option, model, striped=self._striped)
            fits = first_that_fits(forms, objective, model)
            shared = SharedObjective(objective, model, self._workers, rider=fits)
            self._seen = objective, shared, forms[shared.greatest]
            self._drawn = None
            cost, note = shared.cost, told(forms, shared.greatest)
        else:
            cost, note = Cost(), ""
        _, self.problem, self._form = self._seen
        taken: Evaluation[Problem] = Evaluation(self.problem, cost, note)
        if self.curvature != "auto":
            return taken
        settled = faster(self.problem, self._numbers(0), self._workers)
        self.curvature = settled.result
        return taken.after(settled)

    @property
    def share(self) -> float:
        """A curvature batch's part of all samples."""
        if not self.problem.lasting:
            return 1.0
        return min(1.0, self._options.curvature_batch / self.problem.total)

    @property
    def replicated(self) -> bool:
        """Whether every worker has the whole curvature batch."""
        return self.problem.lasting and self.curvature == "replicated"

    @property
    def preconditioning(self) -> str | None:
        """Which form of the Fisher matrix preconditions the present objective's solves."""
        return None if self._form is None else self._form.kind

    def batch(self, iteration: int) -> Evaluation[Summands]:
        """The curvature batch of an iteration; only the latest is kept."""
        if not self.problem.lasting:
            return Evaluation(self.problem.full())
        if self._drawn is not None and self._drawn[0] == iteration:
            return Evaluation(self._drawn[1])
        drawn = self.problem.batch(self._numbers(iteration), replicated=self.replicated)
        self._drawn = iteration, drawn.result
        return drawn

    # --- evaluations, in the order of an iteration ----------------------------------------------

    def gradient(self, theta: Tensor, iteration: int) -> Evaluation[Point]:
        """Loss, gradient and what rides along; should workers disagree, at worker 0's theta.

        Args:
            theta: [P].
            iteration: which will begin there; its curvature batch gives the Fisher matrix.
        """
        first = self._try(theta, iteration)
        if first.result is not None:
            return _known(first)
        sent = self._workers.take_first(theta, "direction")
        return _known(self._try(sent.result, iteration)).after(first, sent, note=DIFFERED)

    def matrix(
        self, point: Point, iteration: int, *, exact: bool, damping: float
    ) -> Evaluation[CurvatureMatrix]:
        """The curvature matrix at a point: the Hessian, or the Gauss-Newton matrix."""
        drawn = self.batch(iteration)
        record = drawn.result.hessian if exact else drawn.result.gauss_newton
        B: CurvatureMatrix
        if self._striped:
            size = len(point.theta)
            B = StripedOperator(record(point.theta), self._workers, size, damping=damping)
        else:
            coded = None if self.replicated else self._coded_products
            B = CurvatureOperator(record(point.theta), self._holders, damping=damping, coded=coded)
        return Evaluation(B).after(drawn)

    def preconditioner(
        self, point: Point, iteration: int, B: CurvatureMatrix
    ) -> Evaluation[Preconditioner | None]:
        """An approximate inverse of B, for the vectors that the solver holds."""
        if self._form is None:
            return Evaluation(None)
        fisher, cost = point.fisher, Cost()
        if fisher is None:  # every worker has the whole batch
            batch = self.batch(iteration).result
            fisher, cost = batch.fisher(point.theta, self._form.kind), Cost(fishers=1)
        if not all_finite(fisher):
            note = "the Fisher matrix was not finite; solved without a preconditioner"
            return Evaluation(None, cost, note)
        return Evaluation(self._form.inverse(fisher, B), cost)

    def direction(
        self, start: Point, iteration: int, B: CurvatureMatrix, solution: Solution, *, exact: bool
    ) -> Evaluation[Direction]:
        """Where to go; what B computes for it is added to B's own cost."""
        drawn = self.batch(iteration)
        seed = draw_seed(self._options.seed, "probe", iteration) if exact else None
        method = self._options.method
        found = descend(method, B, start, solution, drawn.result, self._holders, seed)
        return found.after(drawn)

    def trial(self, start: Point, direction: Direction, iteration: int) -> Trial:
        """How far to go.

        Args:
            start: where the direction begins.
            direction: which way this worker would go.
            iteration: which will begin at the end.
        """

        def at(direction: Direction) -> Evaluation[tuple[Point, Direction]]:
            return self._end(start.theta, direction, iteration)

        reusable = at if self.problem.lasting else None
        return search(start, direction, self.problem.full(), reusable, self._workers)

    # --- what is carried ------------------------------------------------------------------------

    def keep_residuals(self) -> None:
        """Keep what the last sum of gradients by a code left over."""
        if self._coded:
            self._coded.keep()

    def residuals(self) -> list[dict[str, Any]]:
        """What this worker carries for each parameter; see ``exchange.state``."""
        return self._coded.state() if self._coded else [{} for _ in self._parameters]

    def load(self, curvature: Curvature, entries: Sequence[Mapping[str, Any]]) -> None:
        """Go on with a curvature that was settled, and with the residuals among entries."""
        for i, own in enumerate(self.residuals()):
            copy_entry(f"parameter {i}", entries[i], own)
        self.curvature = curvature

    @property
    def carries_residuals(self) -> bool:
        """Whether gradients are summed by a code."""
        return self._coded is not None

    # --------------------------------------------------------------------------------------------

    def _numbers(self, iteration: int) -> Tensor:
        """Of the samples in an iteration's curvature batch, among all."""
        options = self._options
        return draw(self.problem.total, options.curvature_batch, options.seed, iteration)

    @property
    def _holders(self) -> Workers:
        """The workers among which the curvature batch is spread."""
        return self._workers.alone() if self.replicated else self._workers

    def _try(
        self, theta: Tensor, iteration: int, direction: Direction | None = None
    ) -> Evaluation[Point | None]:
        """Loss and gradient; None if workers hold different thetas or directions."""
        full = self.problem.full()
        if self._form is None or self.replicated:
            return evaluate(theta, full, None, self._workers, self._coded, direction)
        drawn = self.batch(iteration)
        fisher = partial(drawn.result.fisher, kind=self._form.kind)
        point = evaluate(theta, full, fisher, self._workers, self._coded, direction)
        return point.after(drawn)

    def _end(
        self, start: Tensor, direction: Direction, iteration: int
    ) -> Evaluation[tuple[Point, Direction]]:
        """What is known at the end of a direction; should workers disagree, of worker 0's."""
        first = self._try(start + direction.d, iteration, direction)
        if first.result is not None:
            return Evaluation((first.result, direction), first.cost, first.note)
        sent = self._first_workers(direction)
        again = _known(self._try(start + sent.result.d, iteration, sent.result))
        end = Evaluation((again.result, sent.result), again.cost, again.note)
        return end.after(first, sent, note=DIFFERED)

    def _first_workers(self, direction: Direction) -> Evaluation[Direction]:
        """Worker 0's direction, on every worker."""
        facts = [float(KINDS.index(direction.kind)), *direction.numbers]
        numbers = self._workers.take_first(
            torch.tensor(facts, dtype=torch.float64, device="cpu"), "direction"
        )
        d = self._workers.take_first(direction.d, "direction")
        kind, slope, curvature, square, damping = numbers.result.tolist()
        taken = Direction(d.result, slope, curvature, square, damping, KINDS[int(kind)])
        return Evaluation(taken).after(numbers, d)

    def _coded_sum(self, option: str, *, feedback: bool) -> CodedSum | None:
        code = getattr(self._options, option)
        try:
            codes = stage_codes(cast(str, code))
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None
        if codes.name == "float32":
            return None
        if any(p.dtype != torch.float32 for p in self._parameters):
            raise ValueError(f"{option}: {codes.name!r} needs float32 parameters")
        return self._workers.coded_sum(self._parameters, codes, error_feedback=feedback)


def _known(point: Evaluation[Point | None]) -> Evaluation[Point]:
    if point.result is None:
        raise RuntimeError("workers hold different parameters after a broadcast")
    return Evaluation(point.result, point.cost, point.note)
