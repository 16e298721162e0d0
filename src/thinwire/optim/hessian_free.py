"""HessianFree: few, large steps, each a Newton-type system solved by products (H)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.curvature import CurvatureOperator, FlatModel
from thinwire.exchange import Ledger, Wire, all_reduce
from thinwire.optim.newton import EITHER_WAY, SHORTER, Method, Point
from thinwire.optim.objective import Objective, SharedObjective, draw
from thinwire.search import (
    Direction,
    after_failure,
    after_step,
    largest_sufficient,
    lowest_sufficient,
    sufficient,
    turned,
)
from thinwire.solve import Outcome, Solution, bicgstab, cg, jacobi


class HessianFree(torch.optim.Optimizer):
    def __init__(
        self,
        params: Iterable[Any],
        *,
        method: Method = "gauss-newton",
        damping: float | None = None,
        adapt_damping: bool = True,
        solver_iterations: int = 10,
        curvature_batch: int = 4096,
        curvature: str = "replicated",
        warm_start: float = 0.95,
        preconditioner: str = "fisher",
        exponent: float = 0.75,
        progress: float = 5e-4,
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        damping = damping or {"gauss-newton": 1e-2, "bicgstab": 1e-2}.get(method, 0.1)
        super().__init__(params, {"damping": damping})
        self.o = dict(
            method=method, m=solver_iterations, b=curvature_batch, replicated=curvature == "replicated",
            eta=warm_start, pre=preconditioner == "fisher", exponent=exponent, seed=seed, adapt=adapt_damping, progress=progress,
        )
        self.damping = damping
        self.ledger = Ledger()
        self.wire = Wire(process_group, self.ledger)
        self.iteration = 0
        self.previous = None
        self.point = None
        self.gn_next = False
        self.passes = 0.0
        self._shared = None
        self.log = {}

    def _evaluate(self, theta, iteration):
        o = self.o
        full = self._shared.full()
        loss, summand = full.gradient(theta)
        self.passes += 1
        P = len(theta)
        if o["pre"] and not o["replicated"]:
            batch = self._batch(iteration)
            self.passes += o["b"] / full.total
            summand = torch.cat([summand, batch.squared_gradients(theta)])
        total, (loss,) = all_reduce(summand, [loss], self.wire, "gradient")
        return Point(theta, loss, total[:P], total[P:] if len(total) > P else None)

    def _batch(self, iteration):
        if getattr(self, "_cached", (None,))[0] != iteration:
            numbers = draw(self._shared.total, self.o["b"], self.o["seed"], iteration)
            self._cached = iteration, self._shared.batch(numbers, replicated=self.o["replicated"])
        return self._cached[1]

    @torch.no_grad()
    def step(self, objective):
        o = self.o
        if self._shared is None:
            model = FlatModel(objective.model, self.param_groups[0]["params"])
            self._shared = SharedObjective(objective, model, self.wire)
        flat = self._shared.model
        theta = flat.read()
        point = self.point or self._evaluate(theta, self.iteration)
        batch = self._batch(self.iteration)
        share = o["b"] / self._shared.total
        wire = self.wire.alone() if o["replicated"] else self.wire
        if o["pre"]:
            diagonal = point.diagonal
            if diagonal is None:
                diagonal = batch.squared_gradients(theta)
                self.passes += share
            pre = jacobi(diagonal, self.damping, o["exponent"])
        else:
            pre = None
        gn = o["method"] == "gauss-newton" or (o["method"] == "hybrid" and self.gn_next)
        local = batch.gauss_newton(theta) if gn else batch.hessian(theta)
        op = CurvatureOperator(local, wire, damping=self.damping)
        solver = bicgstab if o["method"] == "bicgstab" else cg
        x0 = None if self.previous is None or not o["eta"] else o["eta"] * self.previous
        g = point.gradient
        solution = solver(op, -g, x0=x0, preconditioner=pre, iterations=o["m"], progress=o["progress"])
        self.passes += solution.products * share
        xs = solution.iterates
        pairs = [(g, g)]
        for it in xs:
            pairs += [(g, it.x), (it.x, it.x)]
        gg, *rest = op.dots(pairs)
        del op, local
        candidates = turned(xs, rest[::2], rest[1::2], damping=self.damping, gradient_square=gg)
        if o["method"] != "bicgstab":
            candidates = [c for c, s in zip(candidates, rest[::2]) if s < 0]
        nc_hit = solution.outcome is Outcome.NEGATIVE_CURVATURE
        self.gn_next = nc_hit
        if not candidates:
            direction = Direction(-g, -gg, 0.0, gg, self.damping, "gradient")
        else:
            losses = batch.losses([theta + c.d for c in candidates])
            losses = wire.sum(torch.tensor(losses, dtype=torch.float64), "candidate losses").tolist()
            self.passes += share * len(candidates)
            direction = candidates[min(range(len(losses)), key=losses.__getitem__)]
            picked = losses.index(min(losses))
        # line search
        trials = 1
        self.point = None
        trial = self._evaluate(theta + direction.d, self.iteration + 1)
        alpha = 1.0
        f = trial.loss
        if sufficient(point.loss, trial.loss, 1.0, direction):
            self.point = trial
        else:
            alphas = SHORTER if direction.kind == "newton" else EITHER_WAY
            full = self._shared.full()
            losses = full.losses([theta + a * direction.d for a in alphas])
            losses = self.wire.sum(torch.tensor(losses, dtype=torch.float64), "trial losses").tolist()
            self.passes += len(alphas)
            trials += len(alphas)
            i = largest_sufficient(point.loss, losses, alphas, direction)
            alpha = alphas[i] if i is not None else 0.0
            f = losses[i] if i is not None else point.loss
        ratio = None
        if alpha == 0:
            self.damping = after_failure(self.damping)
            self.previous = None
            self.point = point
        else:
            m = direction.model(alpha)
            if direction.kind == "newton" and m < 0:
                ratio = (f - point.loss) / m
            if o["adapt"]:
                self.damping = after_step(self.damping, ratio, hesitant=alpha < 1 or nc_hit)
            good = direction.kind == "newton" and alpha == 1 and (ratio or 0) > 0.25
            self.previous = direction.d if good else None
            flat.write(theta + alpha * direction.d)
        self.log = dict(it=self.iteration, f0=point.loss, f=f, alpha=alpha, kind=direction.kind, ratio=ratio, lam=self.damping,
                        outcome=solution.outcome.name, its=solution.iterations, ncand=len(candidates), negs=sum(c <= 0 for c in solution.curvatures),
                        passes=self.passes, vec=self.ledger.total("gradient", "curvature products").collectives, all=self.ledger.total().collectives)
        self.iteration += 1
        return f
