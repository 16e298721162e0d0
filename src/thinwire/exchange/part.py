"""A part: parameters that travel together by one code, and what one worker carries for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange.two_stage import TwoStage
from thinwire.exchange.wire import Wire
from thinwire.quantize import Axis, FlatSpace, StageCodes

_GLANCE = 64  # values looked at before a whole gradient is


class Part:
    """The two-stage exchange of some parameters, with a step that ends late.

    Nothing is kept before ``finish``, so that all parts of an iteration are kept or dropped
    together. A parameter without gradient, on all workers, is *held*: nothing is sent for it and
    its residual stays, since DistributedDataParallel throws away what a hook returns for it.

    Args:
        parameters: in wire order.
        codes: how they travel.
        axis: which unit's weights share levels.
        rank: this worker.
        world: number of workers.
        error_feedback: keep residuals.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        codes: StageCodes,
        *,
        axis: Axis,
        rank: int,
        world: int,
        error_feedback: bool,
    ) -> None:
        self.parameters = list(parameters)
        self.codes = codes
        self.space = FlatSpace([p.shape for p in self.parameters], axis)
        self.exchange = TwoStage(
            self.space.columns,
            rank,
            world,
            error_feedback=error_feedback,
            device=self.parameters[0].device,
        )
        self._held: list[tuple[int, Tensor]] = []
        self._held_runs: list[tuple[slice, Tensor]] = []

    def collect(self, gradients: Sequence[Tensor], *, hold: bool, copy: bool = True) -> None:
        """Sub-gradients, one for each parameter -> input of stage 1.

        Args:
            gradients: of the parameters' shapes; float32, bfloat16 or float16.
            hold: keep the residual of a parameter whose gradient is zero throughout.
            copy: False where ``exchange.reduce`` is given the gradients end to end instead.
        """
        if copy:
            self.space.collect(gradients, self.exchange.worker.values)
        self._held, self._held_runs = [], []
        if not hold:
            return
        residuals = self.space.views(self.exchange.worker.residual)
        for i, gradient in enumerate(gradients):
            if not _any(gradient.reshape(-1)):
                self._held.append((i, residuals[i].clone()))
                residuals[i].zero_()

    def hold_owner(self, hold: bool) -> None:
        """Between the stages: the same for what no worker sent anything of."""
        stripe, owner = self.exchange.stripe, self.exchange.owner
        for i, first, last in self.space.overlaps(stripe.start, stripe.stop) if hold else ():
            at = self.space.ranges[i][0] - stripe.start
            run = slice(at + first, at + last)
            if not _any(owner.values[run]):
                self._held_runs.append((run, owner.residual[run].clone()))
                owner.residual[run].zero_()

    def finish(self, *, keep: bool) -> None:
        """End the iteration: residuals become those of this iteration, or stay as they were."""
        if keep:
            self.exchange.worker.commit()
            self.exchange.owner.commit()
        residuals = self.space.views(self.exchange.worker.residual)
        for i, held in self._held:
            residuals[i].copy_(held)
        for run, held in self._held_runs:
            self.exchange.owner.residual[run].copy_(held)
        self._held, self._held_runs = [], []

    def residual_of(self, parameter: Parameter) -> Tensor:
        """This worker's residual of one parameter, a view of its shape."""
        return self.space.views(self.exchange.worker.residual)[self._index(parameter)]

    def owned(self, parameter: Parameter, rank: int) -> tuple[int, int]:
        """The run of a parameter's wire-order values that a worker owns; (0, 0) if none."""
        stripe, index = self.exchange.stripes[rank], self._index(parameter)
        for i, first, last in self.space.overlaps(stripe.start, stripe.stop):
            if i == index:
                return first, last
        return 0, 0

    def owner_residual_of(self, parameter: Parameter, first: int, last: int) -> Tensor:
        """The owner residual of a run of a parameter that this worker owns, a view."""
        at = self.space.ranges[self._index(parameter)][0] - self.exchange.stripe.start
        return self.exchange.owner.residual[at + first : at + last]

    def state(self) -> dict[Parameter, dict[str, Any]]:
        """What this worker carries for each parameter, as views; see ``exchange.state``."""
        entries: dict[Parameter, dict[str, Any]] = {}
        for parameter in self.parameters:
            entry: dict[str, Any] = {"residual": self.residual_of(parameter)}
            owned = self.owned(parameter, self.exchange.rank)
            if owned != (0, 0):
                entry["owned"] = owned
                entry["owner_residual"] = self.owner_residual_of(parameter, *owned)
            entries[parameter] = entry
        return entries

    def _index(self, parameter: Parameter) -> int:
        return next(i for i, p in enumerate(self.parameters) if p is parameter)


def move_owner_residuals(before: Mapping[Parameter, Part], part: Part, wire: Wire) -> None:
    """Hand owner residuals of parameters that joined a new part to their new owners, exactly.

    Every worker calls it with the same parts; who owned and who owns what follows from them.

    Args:
        before: for each parameter the part it was in.
        part: the part all of them are in now.
        wire: the workers; one all-to-all of float32, each value sent at most once.
    """
    outgoing: list[list[Tensor]] = [[] for _ in range(wire.world)]
    incoming: list[list[Tensor]] = [[] for _ in range(wire.world)]
    for parameter, old in before.items():
        for giver in range(wire.world):
            for taker in range(wire.world):
                first, last = _overlap(old.owned(parameter, giver), part.owned(parameter, taker))
                if first >= last:
                    continue
                if giver == wire.rank:
                    outgoing[taker].append(old.owner_residual_of(parameter, first, last))
                if taker == wire.rank:
                    incoming[giver].append(part.owner_residual_of(parameter, first, last))
    received = wire.exchange(
        [torch.cat(runs) if runs else torch.empty(0) for runs in outgoing],
        [sum(run.numel() for run in runs) for runs in incoming],
        "moved residuals",
    )
    for runs, values in zip(incoming, received, strict=True):
        for run, value in zip(runs, values.split([r.numel() for r in runs]), strict=True):
            run.copy_(value)


def _any(flat: Tensor) -> bool:
    """Whether any value is other than zero; mostly a glance is enough."""
    return bool(flat[:_GLANCE].any()) or bool(flat.any())


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])
