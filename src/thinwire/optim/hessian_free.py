"""HessianFree: few, large steps, each the solution of a Newton-type system (H Algorithm 2)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.curvature import CurvatureOperator, FlatParameters, StripedOperator
from thinwire.exchange import (
    Ledger,
    check_counts,
    copy_entry,
    counts_of,
    shared_wire,
    with_counts,
    without_counts,
)
from thinwire.optim.closure import Closure
from thinwire.optim.evaluator import Curvature, Evaluator, Preconditioning, SolverVectors
from thinwire.optim.newton import Method, Point, Trial, candidates, choose, probe, search, solve
from thinwire.optim.objective import Objective, draw_seed
from thinwire.search import Direction, after_failure, after_step
from thinwire.solve import Outcome, Solution

TRUSTED = 0.25  # least reduction ratio after which a step warm-starts the next solve


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


class HessianFree(torch.optim.Optimizer):
    """Distributed Hessian-free optimisation.

    Each step computes the gradient over all samples, draws a fresh curvature batch, solves a damped
    Newton-type system with it, and searches along the best of the solver's iterates. The samples
    are the same whatever the number of workers, and the steps differ by rounding, which
    "bicgstab" may amplify until they are other steps (``least_cosine``).

        optimizer = HessianFree(model.parameters())
        objective = Objective(model, nn.functional.cross_entropy, (inputs, targets))
        for _ in range(10):
            loss = optimizer.step(objective)

    Methods (H): "gauss-newton" (CG on the Gauss-Newton matrix), "bicgstab" (the exact Hessian with
    its negative curvature), "cg" (the exact Hessian, truncated at negative curvature), "hybrid"
    (the same, with one Gauss-Newton iteration after each that met negative curvature).

    Args:
        params: parameters, one group.
        method: see above.
        damping: lambda of the first iteration; by default 0.03, and 0.1 for "cg" and "hybrid".
        adapt_damping: change lambda by the reduction ratio, or leave it fixed.
        solver_iterations: of each solve, at most; Bi-CG-STAB's take two products each. By default 5
            with Kronecker factors, 10 with the diagonal, 20 without a preconditioner (Bi-CG-STAB:
            10).
        curvature_batch: samples, over all workers, in the curvature batch.
        curvature: "replicated": every worker works on the whole curvature batch, so that the solver
            sends nothing; "sharded": each on its part, with one all-reduce for each product;
            "auto": whichever takes less time for one product when the first step begins.
        warm_start: eta: the solver starts at eta times the last step, if that was a good one; 0
            starts at zero.
        preconditioner: "kronecker": Kronecker-factored empirical Fisher matrix (linear layers
            only); "diagonal": its diagonal to the power 3/4; "none"; "auto": the first that fits.
            Without one the solver needs more iterations.
        least_cosine: of Bi-CG-STAB's stabilising steps, see ``solve.bicgstab``. 0 is H's method,
            which amplifies rounding: another number of workers, threads or another processor may
            train another network. 0.7 mostly keeps the steps the same to rounding.
        solver_vectors: "replicated": every worker holds the solver's vectors; "sharded": each holds
            1/W of them, which needs curvature="sharded", and sends each candidate once.
        gradient_code: how gradients travel, "float32" or another of ``quantize.CODE_NAMES``, with
            error feedback.
        product_code: how sharded curvature products travel, without error feedback.
        seed: of the curvature batches.
        process_group: the workers. Without torch.distributed the job is one worker.

    Attributes:
        last_step: the report of the last step.
        ledger: traffic of this worker so far.
        passes: effective passes over the data so far.

    Raises:
        ValueError: an argument out of range, naming it.
        FloatingPointError: from ``step``, on every worker alike, if loss or gradient are not finite
            where a step begins. Those met on the way make the step shorter.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        method: Method = "gauss-newton",
        damping: float | None = None,
        adapt_damping: bool = True,
        solver_iterations: int | None = None,
        curvature_batch: int = 4096,
        curvature: Curvature = "replicated",
        warm_start: float = 0.95,
        preconditioner: Preconditioning = "auto",
        least_cosine: float = 0.0,
        solver_vectors: SolverVectors = "replicated",
        gradient_code: str = "float32",
        product_code: str = "float32",
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        _expect_one_of("method", method, get_args(Method))
        _expect_one_of("curvature", curvature, get_args(Curvature))
        _expect_one_of("preconditioner", preconditioner, get_args(Preconditioning))
        _expect_one_of("solver_vectors", solver_vectors, get_args(SolverVectors))
        if solver_vectors == "sharded" and curvature != "sharded":
            raise ValueError(
                f'solver_vectors: "sharded" needs curvature="sharded", got {curvature!r}'
            )
        if damping is None:
            damping = 0.03 if method in ("gauss-newton", "bicgstab") else 0.1
        if not damping > 0:
            raise ValueError(f"damping: expected > 0, got {damping}")
        for name, value in {
            "solver_iterations": solver_iterations,
            "curvature_batch": curvature_batch,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected >= 1, got {value}")
        if not 0 <= warm_start <= 1:
            raise ValueError(f"warm_start: expected 0 to 1, got {warm_start}")
        if not 0 <= least_cosine < 1:
            raise ValueError(f"least_cosine: expected 0 to below 1, got {least_cosine}")
        if least_cosine and method != "bicgstab":
            raise ValueError(f'least_cosine: expected 0 unless method="bicgstab", got {method!r}')
        super().__init__(params, {"damping": damping})
        if len(self.param_groups) != 1:
            raise ValueError(
                f"params: expected one group, got {len(self.param_groups)}: a Newton-type step has "
                "one damping for all parameters"
            )
        self._method: Method = method
        self._adapt_damping = adapt_damping
        self._solver_iterations = solver_iterations
        self._warm_start = warm_start
        self._least_cosine = least_cosine
        self._seed = seed
        self.ledger = Ledger()
        self._parameters: list[torch.nn.Parameter] = self.param_groups[0]["params"]
        self._evaluator = Evaluator(
            self._parameters,
            shared_wire(process_group, self.ledger),
            batch_size=curvature_batch,
            curvature=curvature,
            preconditioner=preconditioner,
            solver_vectors=solver_vectors,
            gradient_code=gradient_code,
            product_code=product_code,
            seed=seed,
        )
        self._iteration = 0
        self._gauss_newton_next = False
        self._previous: Tensor | None = None
        self._point: Point | None = None
        self.last_step: HessianFreeStep | None = None
        self._share_parameters()

    @property
    def damping(self) -> float:
        """Lambda of the next iteration; it is the param group's, where a schedule may change it."""
        return float(self.param_groups[0]["damping"])

    @property
    def passes(self) -> float:
        """Effective passes over the data so far, over all workers."""
        return self._evaluator.passes

    @torch.no_grad()
    def step(self, objective: Objective | Closure) -> float:  # type: ignore[override]
        """One iteration, on all workers together.

        Args:
            objective: what to minimise; or a closure that returns (mean loss, outputs) of this
                worker's next minibatch without calling backward, which then serves for gradient,
                curvature and line search alike. A closure is called several times.

        Returns:
            The objective (with a closure: the minibatches' loss) after the step. It is never
            higher than before.
        """
        work = self._evaluator
        work.take(objective)
        start = self._begin()
        exact = self._takes_exact_hessian()
        B = work.operator(start, self._iteration, exact=exact, damping=self.damping)
        solution = solve(
            self._method,
            B,
            B.part(start.gradient),
            None if self._previous is None else self._warm_start * B.part(self._previous),
            work.preconditioner(start, self._iteration, B),
            self._solver_iterations or self._usual_iterations(),
            self._least_cosine,
        )
        direction, tried = self._direction(B, start, solution, exact)
        products = B.products
        del B  # with the graphs of the curvature batch
        trial, direction = self._search(start, direction)
        work.passes += work.share * (products + tried) + trial.losses
        ratio = self._adapt(start, direction, trial, solution)
        work.problem.model.write(trial.theta)
        self._point = trial.point if work.problem.lasting else None
        self._iteration += 1
        self.last_step = HessianFreeStep(
            iteration=self._iteration,
            loss_before=start.loss,
            loss=trial.loss,
            alpha=trial.alpha,
            damping=self.damping,
            ratio=ratio,
            kind=direction.kind,
            matrix="hessian" if exact else "gauss-newton",
            outcome=str(solution.outcome),
            solver_iterations=solution.iterations,
            products=products,
            negative=sum(curvature <= 0 for curvature in solution.curvatures),
            candidates=tried,
            trials=trial.gradients + trial.losses,
            passes=self.passes,
            note=work.note,
        )
        work.note = ""
        return trial.loss

    # --- the parts of a step --------------------------------------------------------------------

    def _begin(self) -> Point:
        """Loss and gradient where the step begins: known from the last step, or computed now."""
        work = self._evaluator
        theta = work.problem.model.read()
        known = self._point
        if work.problem.lasting and known is not None and torch.equal(known.theta, theta):
            return known
        point = work.evaluate(theta, self._iteration)
        work.problem.model.write(point.theta)
        finite = bool(point.gradient.isfinite().all())
        if not (math.isfinite(point.loss) and finite):
            raise FloatingPointError(
                f"iteration {self._iteration + 1}: where it begins, the loss is {point.loss} and "
                f"its gradient {'' if finite else 'not '}finite; look at the data, or at the "
                "parameters it began with"
            )
        if work.coded:
            work.coded.keep()
        return point

    def _takes_exact_hessian(self) -> bool:
        if self._method == "hybrid":
            return not self._gauss_newton_next
        return self._method != "gauss-newton"

    def _usual_iterations(self) -> int:
        """What a solve is worth with the preconditioner at hand."""
        unaided = 10 if self._method == "bicgstab" else 20
        return {"kronecker": 5, "diagonal": 10, None: unaided}[self._evaluator.preconditioning]

    def _direction(
        self, B: CurvatureOperator | StripedOperator, start: Point, solution: Solution, exact: bool
    ) -> tuple[Direction, int]:
        """Where to go, and how many candidates' losses it took to tell."""
        work = self._evaluator
        found, g_square = candidates(self._method, B, B.part(start.gradient), solution)
        negligible = torch.finfo(start.theta.dtype).eps * abs(start.loss)
        if all(direction.model(1.0) >= -negligible for direction in found):
            # Nothing to gain by the model: a stationary point, maybe a saddle.
            seed = draw_seed(self._seed, "probe", self._iteration)
            escape = probe(B, start.gradient, start.theta, seed) if exact else None
            if escape is not None:
                return escape, 0
            if found or g_square == 0:
                nowhere = torch.zeros_like(start.theta)
                return Direction(nowhere, 0.0, 0.0, 0.0, B.damping, "none"), 0
        chosen = None
        if found:
            batch = work.batch(self._iteration)
            chosen = choose(found, B, start.theta, batch, work.solver_wire)
        if chosen is None:  # the solver came to nothing
            chosen = Direction(-start.gradient, -g_square, 0.0, g_square, B.damping, "gradient")
        return chosen, len(found)

    def _search(self, start: Point, direction: Direction) -> tuple[Trial, Direction]:
        """How far to go, and the direction that all workers agreed on."""
        work = self._evaluator

        def at(direction: Direction) -> tuple[Point, Direction]:
            return work.trial(start.theta, direction, self._iteration + 1)

        reusable = at if work.problem.lasting else None
        return search(start, direction, work.problem.full(), reusable, work.wire)

    def _adapt(
        self, start: Point, direction: Direction, trial: Trial, solution: Solution
    ) -> float | None:
        """Learn from the step: damping, warm start, the hybrid's next matrix. Returns the ratio."""
        met = any(curvature <= 0 for curvature in solution.curvatures)
        self._gauss_newton_next = self._method == "hybrid" and met
        self._previous = None
        if direction.kind == "none":
            return None
        group = self.param_groups[0]
        if trial.alpha == 0:
            group["damping"] = after_failure(self.damping)
            return None
        if self._evaluator.coded:
            self._evaluator.coded.keep()
        ratio = None
        foretold = direction.model(trial.alpha)
        if direction.kind == "newton" and foretold < 0:
            ratio = (trial.loss - start.loss) / foretold
        if self._adapt_damping:
            unused = solution.outcome is Outcome.NEGATIVE_CURVATURE
            group["damping"] = after_step(self.damping, ratio, hesitant=trial.alpha < 1 or unused)
        if ratio is not None and ratio > TRUSTED and trial.alpha == 1 and self._warm_start:
            self._previous = direction.d
        return ratio

    # --- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on.

        Returns:
            torch's "state" and "param_groups"; ``state[i]`` has, as far as they exist, "step" (the
            last one, for the warm start) and "gradient" (where the next step begins), of the
            parameter's shape, and with a ``gradient_code`` this worker's residuals. All but these
            and the ledger is the same on every worker. ``state[0]["fisher"]`` is the Fisher matrix
            that belongs to the gradient, flat. The first param group's "thinwire" holds counts.
        """
        work = self._evaluator
        state = super().state_dict()
        flat, point = FlatParameters(self._parameters), self._point
        coded = work.coded.state() if work.coded else [{} for _ in self._parameters]
        entries = dict(enumerate(coded))
        gradient = point.gradient if point else None
        for name, vector in (("step", self._previous), ("gradient", gradient)):
            for i, piece in enumerate(flat.pieces(vector) if vector is not None else ()):
                entries[i][name] = piece
        if point is not None and point.fisher is not None:
            entries[0]["fisher"] = point.fisher
        counts = {
            "rank": work.wire.rank,
            "world": work.wire.world,
            "iteration": self._iteration,
            "gauss_newton_next": self._gauss_newton_next,
            "curvature": work.curvature,
            "passes": self.passes,
            "loss": point.loss if point else None,
            "ledger": self.ledger.state_dict(),
        }
        return with_counts({**state, "state": entries}, counts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict``.

        That of any worker of any job will do, unless there is a ``gradient_code``: then
        ``thinwire.reshard`` adapts it. The model must hold the parameters of that time; if it holds
        others, the next step begins by computing its gradient.

        Raises:
            ValueError: it is not a HessianFree's, its tensors have other shapes, or it is another
                worker's and holds residuals.
        """
        counts = counts_of(state_dict)
        if "gauss_newton_next" not in counts:
            raise ValueError("state_dict: it was not made by HessianFree")
        entries = {i: state_dict["state"].get(i, {}) for i in range(len(self._parameters))}
        flat = FlatParameters(self._parameters)
        previous, gradient = (_join(name, entries, flat) for name in ("step", "gradient"))
        work = self._evaluator
        if work.coded:
            check_counts(counts, rank=work.wire.rank, world=work.wire.world)
            for i, own in enumerate(work.coded.state()):
                copy_entry(f"parameter {i}", entries[i], own)
        super().load_state_dict(without_counts({**state_dict, "state": {}}))
        self._iteration = counts["iteration"]
        self._gauss_newton_next = counts["gauss_newton_next"]
        work.curvature = counts["curvature"]
        work.passes = counts["passes"]
        self.ledger.load_state_dict(counts["ledger"])
        self._previous, self._point = previous, None
        if gradient is not None:
            self._point = Point(flat.read(), counts["loss"], gradient, entries[0].get("fisher"))

    def _share_parameters(self) -> None:
        """Every worker begins with worker 0's parameters."""
        parameters = FlatParameters(self._parameters)
        theta = parameters.read()
        self._evaluator.wire.broadcast(theta, "initial parameters")
        parameters.write(theta)


def _expect_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def _join(
    name: str, entries: Mapping[int, Mapping[str, Any]], flat: FlatParameters
) -> Tensor | None:
    """One kind of the parameters' tensors as a flat vector; None where there is none."""
    tensors = [entry.get(name) for entry in entries.values()]
    known = [tensor for tensor in tensors if tensor is not None]
    if not known:
        return None
    got, expected = [[*t.shape] for t in known], [[*p.shape] for p in flat.parameters]
    if got != expected:
        raise ValueError(f"state_dict: {name}: expected tensors of shapes {expected}, got {got}")
    return flat.flatten(known).to(flat.parameters[0])
