"""HessianFree: few, large steps, each the solution of a Newton-type system (H Algorithm 2)."""

import math
from collections.abc import Iterable
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from thinwire.curvature import CURVED, Evaluation, FlatParameters, Workers, all_finite, joined
from thinwire.exchange import (
    Ledger,
    check_counts,
    check_parameters,
    counts_of,
    refuse_copy,
    with_counts,
    without_counts,
)
from thinwire.optim.closure import Closure
from thinwire.optim.evaluator import Evaluator
from thinwire.optim.given import check_is_no_model
from thinwire.optim.newton import Solved, learn, solve
from thinwire.optim.newton_options import (
    Curvature,
    Method,
    NewtonOptions,
    Preconditioning,
    SolverVectors,
)
from thinwire.optim.newton_report import HessianFreeStep, report
from thinwire.optim.newton_state import Carried, carried_from
from thinwire.optim.objective import Objective
from thinwire.optim.point import Point
from thinwire.quantize import Code


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
        params: parameters, one group. Frozen ones (``requires_grad`` false) are left alone, and
            stay frozen as long as this optimiser is used.
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
        ValueError: an argument out of range, naming it; from ``step``, a parameter that was frozen
            or unfrozen since.
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
        gradient_code: str | Code = "float32",
        product_code: str | Code = "float32",
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        options = NewtonOptions(
            method=method,
            damping=damping,
            adapt_damping=adapt_damping,
            solver_iterations=solver_iterations,
            curvature_batch=curvature_batch,
            curvature=curvature,
            warm_start=warm_start,
            preconditioner=preconditioner,
            least_cosine=least_cosine,
            solver_vectors=solver_vectors,
            gradient_code=gradient_code,
            product_code=product_code,
            seed=seed,
        )
        check_is_no_model(params)
        super().__init__(params, {"damping": options.first_damping})
        if len(self.param_groups) != 1:
            raise ValueError(
                f"params: expected one group, got {len(self.param_groups)}: a Newton-type step has "
                "one damping for all parameters"
            )
        self._options = options
        self.ledger = Ledger()
        parameters = self.param_groups[0]["params"]
        names = self.param_groups[0].get("param_names") or map("parameter {}".format, count())
        named = list(zip(names, parameters, strict=False))
        check_parameters(named, dtypes=CURVED)
        self._trained = [p.requires_grad for p in parameters]
        self._flat = FlatParameters(p for p in parameters if p.requires_grad)
        self._workers = Workers(process_group, self.ledger)
        self._evaluator = Evaluator(self._flat.parameters, self._workers, options)
        self._workers.check_alike(options.facts(named), "HessianFree")
        self._carried = Carried()
        self.last_step: HessianFreeStep | None = None
        first = self._workers.take_first(self._flat.read(), "initial parameters")
        self._flat.write(first.result)
        frozen = [p for p in parameters if not (p.requires_grad or isinstance(p, DTensor))]
        self._workers.copy_first(frozen, "initial parameters")

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be copied or pickled."""
        refuse_copy(self)

    @property
    def damping(self) -> float:
        """Lambda of the next iteration; it is the param group's, where a schedule may change it."""
        return float(self.param_groups[0]["damping"])

    @property
    def passes(self) -> float:
        """Effective passes over the data so far, over all workers."""
        return self._carried.passes

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
        work, options, before = self._evaluator, self._options, self._carried
        self._check_trained()
        taken = work.take(objective)
        start = self._start().after(taken)
        solved = self._solve(start.result)
        trial = work.trial(start.result, solved.direction, before.iteration + 1)
        lesson = learn(options, self.damping, start.result.loss, trial, solved.solution)
        if lesson.moved:
            work.keep_residuals()
        self._flat.write(trial.theta)
        self.param_groups[0]["damping"] = lesson.damping
        passes = before.passes
        for cost in (start.cost, solved.prepared, trial.first, solved.cost + trial.shorter):
            passes += cost.passes(work.share)
        self._carried = Carried(
            iteration=before.iteration + 1,
            gauss_newton_next=lesson.gauss_newton_next,
            step=lesson.step,
            point=trial.point if taken.result.lasting else None,
            passes=passes,
        )
        self.last_step = report(self._carried, start, solved, trial, lesson)
        return trial.loss

    def _start(self) -> Evaluation[Point]:
        """Loss and gradient where the step begins: known from the last step, or computed now."""
        work, known = self._evaluator, self._carried.point
        theta, iteration = self._flat.read(), self._carried.iteration
        if work.problem.lasting and known is not None and torch.equal(known.theta, theta):
            return Evaluation(known)
        start = work.gradient(theta, iteration)
        point = start.result
        self._flat.write(point.theta)
        finite = all_finite(point.gradient)
        if not (math.isfinite(point.loss) and finite):
            raise FloatingPointError(
                f"iteration {iteration + 1}: where it begins, the loss is {point.loss} and "
                f"its gradient {'' if finite else 'not '}finite; look at the data, or at the "
                "parameters it began with"
            )
        work.keep_residuals()
        return start

    def _solve(self, start: Point) -> Solved:
        """(C + lambda I) d = -g, and the best direction among the solver's iterates."""
        work, options, before = self._evaluator, self._options, self._carried
        k, exact = before.iteration, options.takes_hessian(before.gauss_newton_next)
        matrix = work.matrix(start, k, exact=exact, damping=self.damping)
        B = matrix.result
        M = work.preconditioner(start, k, B)
        g = B.part(start.gradient)
        warm = None if before.step is None else options.warm_start * B.part(before.step)
        iterations = options.iterations(work.preconditioning)
        solution = solve(*(options.method, B, g, warm, M.result, iterations), options.least_cosine)
        direction = work.direction(start, k, B, solution, exact=exact)
        return Solved(
            solution,
            direction.result,
            matrix="hessian" if exact else "gauss-newton",
            prepared=M.cost,
            cost=matrix.cost + B.cost + direction.cost,
            note=joined(matrix, M, direction),
        )

    def _check_trained(self) -> None:
        """Raise ValueError if a parameter was frozen or unfrozen since construction."""
        for i, parameter in enumerate(self.param_groups[0]["params"]):
            if parameter.requires_grad != self._trained[i]:
                was = "trained" if self._trained[i] else "frozen"
                raise ValueError(
                    f"parameter {i}, of shape {[*parameter.shape]}: it was {was} when HessianFree "
                    f"was made, and requires_grad is {parameter.requires_grad} now; make a new "
                    "HessianFree for it"
                )

    # --- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on.

        Returns:
            torch's "state" and "param_groups"; ``state[i]`` has, as far as they exist, "step" (the
            last one, for the warm start) and "gradient" (where the next step begins), of the
            parameter's shape, and with a ``gradient_code`` this worker's residuals. All but these
            and the ledger is the same on every worker. The first trained parameter's also has
            "fisher", the Fisher matrix that belongs to the gradient, flat. The first param group's
            "thinwire" holds counts.
        """
        work, workers = self._evaluator, self._workers
        trained = self._carried.entries(self._flat, work.residuals())
        entries = dict(zip(self._indices(), trained, strict=True))
        counts = {
            "rank": workers.rank,
            "world": workers.world,
            **self._carried.counts(),
            "curvature": work.curvature,
            "ledger": self.ledger.state_dict(),
        }
        return with_counts({**super().state_dict(), "state": entries}, counts)

    def _indices(self) -> list[int]:
        """Of the trained parameters in the group."""
        return [i for i, trained in enumerate(self._trained) if trained]

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
        work, workers = self._evaluator, self._workers
        entries = [state_dict["state"].get(i, {}) for i in self._indices()]
        carried = carried_from(entries, counts, self._flat)
        if work.carries_residuals:
            check_counts(counts, rank=workers.rank, world=workers.world)
        work.load(counts["curvature"], entries)
        super().load_state_dict(without_counts({**state_dict, "state": {}}))
        self.ledger.load_state_dict(counts["ledger"])
        self._carried = carried
