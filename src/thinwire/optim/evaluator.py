"""What one worker computes of an objective, together with the others."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.curvature import (
    CurvatureOperator,
    FisherKind,
    FlatModel,
    FlatParameters,
    StripedOperator,
    kronecker_layers,
)
from thinwire.exchange import CodedSum, Wire
from thinwire.optim.closure import Closure, ClosureProblem
from thinwire.optim.newton import Point, Problem, Sums, evaluate
from thinwire.optim.objective import Objective, SharedObjective, draw
from thinwire.quantize import stage_codes
from thinwire.search import KINDS, Direction
from thinwire.solve import LinearLayer, Preconditioner, jacobi, kronecker

Curvature = Literal["replicated", "sharded", "auto"]
Preconditioning = Literal["auto", "kronecker", "diagonal", "none"]
SolverVectors = Literal["replicated", "sharded"]

WIDEST = 4096  # layers up to so wide get Kronecker factors by themselves


class Evaluator:
    """Gradient, curvature batch and preconditioner of the present objective.

    Args:
        parameters: what is trained.
        wire: the workers.
        batch_size: samples in a curvature batch.
        curvature: see ``HessianFree``.
        preconditioner: see ``HessianFree``.
        solver_vectors: see ``HessianFree``.
        gradient_code: see ``HessianFree``.
        product_code: see ``HessianFree``.
        seed: of the curvature batches.

    Attributes:
        curvature: "replicated" or "sharded"; "auto" until the first step has settled it.
        coded: sums gradients by a code, if there is one.
        passes: effective passes over the data so far.
        note: what the step's report should mention.
        problem: the present objective as this worker sees it.
        share: a curvature batch's part of all samples.
    """

    problem: Problem

    def __init__(
        self,
        parameters: Sequence[Parameter],
        wire: Wire,
        *,
        batch_size: int,
        curvature: Curvature,
        preconditioner: Preconditioning,
        solver_vectors: SolverVectors,
        gradient_code: str,
        product_code: str,
        seed: int,
    ) -> None:
        self.parameters = list(parameters)
        self.wire = wire
        self._batch_size, self._seed = batch_size, seed
        self.curvature: Curvature = curvature
        self._preconditioning: Preconditioning = preconditioner
        self._striped = solver_vectors == "sharded" and wire.world > 1
        self.coded = self._coded_sum("gradient_code", gradient_code, feedback=True)
        self._coded_products = self._coded_sum("product_code", product_code, feedback=False)
        self._seen: tuple[Objective, SharedObjective] | None = None
        self._fisher: FisherKind | None = None
        self._layers: list[LinearLayer] = []
        self._drawn: tuple[int, Sums] | None = None
        self.passes = 0.0
        self.note = ""
        self.share = 1.0

    def take(self, objective: Objective | Closure) -> None:
        """Make an objective the present one.

        Raises:
            ValueError: it does not go with the preconditioner.
        """
        if not isinstance(objective, Objective):
            if self._preconditioning not in ("auto", "none"):
                raise ValueError(
                    f"preconditioner: {self._preconditioning!r} needs the samples' own gradients, "
                    'which a closure does not give; pass an Objective, or choose "none"'
                )
            flat = FlatParameters(self.parameters)
            self.problem, self.share = ClosureProblem(objective, flat, self.wire), 1.0
            return
        if self._seen is None or self._seen[0] is not objective:
            model = FlatModel(objective.model, self.parameters)
            self._fisher = self._choose_fisher(model)
            self._seen = objective, SharedObjective(objective, model, self.wire)
            self._drawn = None
        self.problem = self._seen[1]
        self.share = min(1.0, self._batch_size / self.problem.total)
        if self.curvature == "auto":
            self._decide()

    def evaluate(self, theta: Tensor, iteration: int) -> Point:
        """Loss, gradient and what rides along; should workers disagree, at worker 0's theta.

        Args:
            theta: [P].
            iteration: which will begin there; its curvature batch gives the Fisher matrix.
        """
        point = self._try(theta, iteration)
        if point is None:
            theta = theta.clone()
            self.wire.broadcast(theta, "direction")
            point = self._try(theta, iteration, again=True)
        return _known(point)

    def trial(self, start: Tensor, direction: Direction, iteration: int) -> tuple[Point, Direction]:
        """The same at the end of a direction; should workers disagree, of worker 0's direction.

        Args:
            start: where the direction begins, [P].
            direction: which way this worker would go.
            iteration: which will begin there.

        Returns:
            What is known there, and the direction that all workers take.
        """
        point = self._try(start + direction.d, iteration, direction)
        if point is None:
            direction = self._first_workers(direction)
            point = self._try(start + direction.d, iteration, direction, again=True)
        return _known(point), direction

    def _try(
        self,
        theta: Tensor,
        iteration: int,
        direction: Direction | None = None,
        *,
        again: bool = False,
    ) -> Point | None:
        fisher = None
        kind = self.preconditioning
        if kind and not self.replicated:
            batch = self.batch(iteration)
            fisher = partial(batch.fisher, kind=kind)
        if again:
            self.note = "workers' steps differed by rounding; worker 0's was taken"
        self.passes += 1 + (self.share if fisher else 0)
        return evaluate(theta, self.problem.full(), fisher, self.wire, self.coded, direction)

    def _first_workers(self, direction: Direction) -> Direction:
        """Worker 0's direction, on every worker."""
        facts = [float(KINDS.index(direction.kind)), *direction.numbers]
        numbers = torch.tensor(facts, dtype=torch.float64)
        d = direction.d.clone()
        self.wire.broadcast(numbers, "direction")
        self.wire.broadcast(d, "direction")
        kind, slope, curvature, square, damping = numbers.tolist()
        return Direction(d, slope, curvature, square, damping, KINDS[int(kind)])

    def batch(self, iteration: int) -> Sums:
        """The curvature batch of an iteration; only the latest is kept."""
        if not self.problem.lasting:
            return self.problem.full()
        if self._drawn is None or self._drawn[0] != iteration:
            numbers = draw(self.problem.total, self._batch_size, self._seed, iteration)
            self._drawn = iteration, self.problem.batch(numbers, replicated=self.replicated)
        return self._drawn[1]

    @property
    def replicated(self) -> bool:
        """Whether every worker has the whole curvature batch."""
        return self.problem.lasting and self.curvature == "replicated"

    @property
    def preconditioning(self) -> FisherKind | None:
        """Which form of the Fisher matrix preconditions the present objective's solves."""
        return self._fisher if self.problem.lasting else None

    @property
    def solver_wire(self) -> Wire:
        """The workers among which the curvature batch is spread."""
        return self.wire.alone() if self.replicated else self.wire

    def operator(
        self, point: Point, iteration: int, *, exact: bool, damping: float
    ) -> CurvatureOperator | StripedOperator:
        """The curvature matrix at a point: the Hessian, or the Gauss-Newton matrix."""
        batch = self.batch(iteration)
        local = batch.hessian(point.theta) if exact else batch.gauss_newton(point.theta)
        if self._striped:
            return StripedOperator(local, self.wire, len(point.theta), damping=damping)
        coded = None if self.replicated else self._coded_products
        return CurvatureOperator(local, self.solver_wire, damping=damping, coded=coded)

    def preconditioner(
        self, point: Point, iteration: int, B: CurvatureOperator | StripedOperator
    ) -> Preconditioner | None:
        """An approximate inverse of B, for the vectors that the solver holds."""
        kind = self.preconditioning
        if kind is None:
            return None
        fisher = point.fisher
        if fisher is None:  # every worker has the whole batch
            fisher = self.batch(iteration).fisher(point.theta, kind)
            self.passes += self.share
        if not bool(fisher.isfinite().all()):
            self.note = "the Fisher matrix was not finite; solved without a preconditioner"
            return None
        if kind == "diagonal":
            return jacobi(B.part(fisher), B.damping)
        return kronecker(fisher, self._layers, B.damping)

    def _choose_fisher(self, model: FlatModel) -> FisherKind | None:
        """Which form of the Fisher matrix preconditions."""
        kind = self._preconditioning
        if kind == "none":
            return None
        layers = kronecker_layers(model)
        self._layers = layers or []
        if kind == "auto":
            narrow = layers and all(max(x.width, x.outputs) <= WIDEST for x in layers)
            return "kronecker" if narrow and not self._striped else "diagonal"
        if kind == "kronecker" and layers is None:
            raise ValueError(
                'preconditioner: "kronecker" needs a model all of whose parameters are those of '
                'linear layers; use "diagonal"'
            )
        if kind == "kronecker" and self._striped:
            raise ValueError(
                'preconditioner: "kronecker" needs whole vectors; with solver_vectors="sharded" '
                'use "diagonal"'
            )
        return kind

    def _decide(self) -> None:
        """Settle "auto" by the time that one product takes either way, on the slowest worker."""
        numbers = draw(self.problem.total, self._batch_size, self._seed, 0)
        theta = self.problem.model.read()
        took = []
        for replicated in (False, True):
            batch = self.problem.batch(numbers, replicated=replicated)
            wire = self.wire.alone() if replicated else self.wire
            B = CurvatureOperator(batch.gauss_newton(theta), wire)
            B @ theta  # the first is slower
            started = time.perf_counter()
            for _ in range(3):
                B @ theta
            took.append((time.perf_counter() - started) / 3)
        every = self.wire.all_gather(torch.tensor(took, dtype=torch.float64), "timings")
        sharded, whole = torch.stack(every).max(0).values.tolist()
        self.curvature = "replicated" if whole <= sharded else "sharded"
        self.note = (
            f"curvature batch {self.curvature}: a product takes {1e3 * sharded:.1f} ms sharded, "
            f"with its all-reduce, and {1e3 * whole:.1f} ms replicated"
        )

    def _coded_sum(self, option: str, code: str, *, feedback: bool) -> CodedSum | None:
        try:
            codes = stage_codes(code)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None
        if code == "float32":
            return None
        if any(p.dtype != torch.float32 for p in self.parameters):
            raise ValueError(f"{option}: {code!r} needs float32 parameters")
        return CodedSum(self.parameters, codes, self.wire, error_feedback=feedback)


def _known(point: Point | None) -> Point:
    if point is None:
        raise RuntimeError("workers hold different parameters after a broadcast")
    return point
