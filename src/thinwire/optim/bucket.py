"""A bucket: parameters that are exchanged together, with everything one worker keeps for them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import Header, TwoStage
from thinwire.optim.postprocess import LocalAdaGrad, State
from thinwire.optim.shards import local
from thinwire.quantize import Axis, FlatSpace, StageCodes, to_wire


class Bucket:
    """Parameters of one param group in one flat space, their exchange and the owner's state.

    Attributes:
        group: the optimiser's param group, whose rates apply.
        parameters: in wire order; of a DTensor this worker's shard is what is exchanged.
        codes: how their gradients and updates travel.
        exchange: residuals of both stages.
        state_names: the tensors of the owner's post-processing state.
        state: those tensors, over the run of values this worker owns; missing ones are zero.
        scalars: the part of that state that is not per value, such as a count of steps.
        local: worker-side AdaGrad, if asked for.
        waiting: parameters whose gradient this step still lacks.
        pending: float32 ``[values]``, an update that has arrived and is not applied yet; None
            until double buffering needs it.
    """

    def __init__(
        self,
        group: dict[str, Any],
        parameters: Sequence[tuple[str, Parameter]],
        codes: StageCodes,
        state_names: Sequence[str],
        *,
        axis: Axis,
        rank: int,
        world: int,
        error_feedback: bool,
    ) -> None:
        self.group = group
        self.names = [name for name, _ in parameters]
        self.parameters = [parameter for _, parameter in parameters]
        self.codes = codes
        self.state_names = list(state_names)
        self.space = FlatSpace([p.shape for p in self.shards], axis)
        device = self.parameters[0].device
        self.exchange = TwoStage(
            self.space.columns, rank, world, error_feedback=error_feedback, device=device
        )
        self.state: State = {}
        self.scalars: dict[str, float] = {}
        self.local: LocalAdaGrad | None = None
        if group.get("adagrad") == "local":
            self.local = LocalAdaGrad(self.space.values, group["eps"], device)
        self.waiting: set[Parameter] = set(self.parameters)
        self.pending: Tensor | None = None

    @property
    def shards(self) -> list[Tensor]:
        """What this worker holds of each parameter, sharing its memory."""
        return [local(parameter) for parameter in self.parameters]

    @property
    def scratch(self) -> Tensor:
        """float32 ``[values]``: free between ``commit`` and the next sub-gradient."""
        return self.exchange.worker.values

    def receive(self) -> Tensor:
        """``pending``, made when first needed."""
        if self.pending is None:
            self.pending = self.scratch.new_zeros(self.space.values)
        return self.pending

    def collect_gradients(self) -> None:
        """``p.grad`` of every parameter -> the exchange's input; a missing gradient is 0."""
        gradients = [None if p.grad is None else local(p.grad) for p in self.parameters]
        self.space.collect(gradients, self.scratch)
        if self.local is not None:
            self.local.normalise(self.scratch)

    def commit(self) -> None:
        """Keep what this step's sub-gradient left behind on the worker's side."""
        self.exchange.worker.commit()
        self.commit_local()

    def commit_local(self) -> None:
        """Keep worker-side AdaGrad's sums, if there are any."""
        if self.local is not None:
            self.local.commit()

    def apply(self, update: Tensor) -> None:
        """Subtract an update ([values]) from the parameters."""
        views = [v.to(p.dtype) for v, p in self._pairs(self.space.views(update))]
        torch._foreach_sub_(self.shards, views)

    def store(self, values: Tensor) -> None:
        """Overwrite the parameters by ``values`` ([values])."""
        torch._foreach_copy_(self.shards, self.space.views(values))

    def parameter_values(self, start: int, stop: int) -> Tensor:
        """float32 copy of the wire-order values ``start .. stop - 1`` of the parameters."""
        run, own = self.scratch.new_empty(stop - start), self.shards
        for i, first, last in self.space.overlaps(start, stop):
            at = self.space.ranges[i][0] + first - start
            run[at : at + last - first].copy_(to_wire(own[i], self.space.axis)[first:last])
        return run

    def name_of_group(self, group: int) -> str:
        """The parameter a group of columns belongs to."""
        return self.names[self.space.owner_of(self.space.columns.offsets[group])]

    def _pairs(self, views: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(views, self.parameters, strict=True)


def cut_into_buckets(
    parameters: Sequence[tuple[str, Parameter]], enough_bytes: float
) -> list[list[tuple[str, Parameter]]]:
    """Runs of parameters, last parameter first, each closed once it reaches ``enough_bytes``.

    Backward reaches the last parameters first, so their bucket is complete, and on its way, first.
    """
    buckets: list[list[tuple[str, Parameter]]] = []
    size = enough_bytes
    for name, parameter in reversed(parameters):
        if size >= enough_bytes:
            buckets.append([])
            size = 0.0
        buckets[-1].append((name, parameter))
        size += 4 * local(parameter).numel()
    return buckets


def first_nonfinite(
    buckets: Sequence[Bucket], headers: Sequence[Sequence[Header]]
) -> tuple[int, str] | None:
    """(worker, parameter) of a NaN or infinity that any worker announced, if there is one."""
    for bucket, of_bucket in zip(buckets, headers, strict=True):
        for worker, header in enumerate(of_bucket):
            if header.nonfinite_group >= 0:
                return worker, bucket.name_of_group(header.nonfinite_group)
    return None
