"""Which bucket each parameter travels in, where something else decides it and may change its mind.

DistributedDataParallel rebuilds its buckets after the first iteration. What is carried for a
parameter goes with it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thinwire.exchange.bucket import ParameterBucket
from thinwire.exchange.wire import Wire
from thinwire.quantize import StageCodes


class Membership:
    """The buckets of parameters that come in changing company.

    Args:
        make: makes the bucket of some parameters that travel by the same codes.
        codes_of: how a parameter travels.
        wire: the workers.

    Attributes:
        bucket_of: for each parameter the bucket that holds what is carried for it.
    """

    def __init__(
        self,
        make: Callable[[Sequence[Tensor]], ParameterBucket],
        codes_of: Callable[[Tensor], StageCodes],
        wire: Wire,
    ) -> None:
        self.bucket_of: dict[Tensor, ParameterBucket] = {}
        self._make, self._codes_of, self._wire = make, codes_of, wire
        self._known: dict[tuple[int, ...], list[ParameterBucket]] = {}  # by parameters' identities

    def buckets_for(self, parameters: Sequence[Tensor], *, carries: bool) -> list[ParameterBucket]:
        """Return the buckets of parameters that come together, one for each pair of codes.

        Every worker must ask for the same parameters at the same point, since a new composition
        takes over what others carried, in one all-to-all.

        Args:
            parameters: in wire order.
            carries: whether a residual may be other than zero.
        """
        key = tuple(id(parameter) for parameter in parameters)
        if key not in self._known:
            by_code: dict[str, list[Tensor]] = {}
            for parameter in parameters:
                by_code.setdefault(self._codes_of(parameter).name, []).append(parameter)
            buckets = [self._make(members) for members in by_code.values()]
            for bucket in buckets:
                self._join(bucket, carries)
            # A composition that lost a parameter to another must take it back when it returns.
            self._known = {k: kept for k, kept in self._known.items() if self._current(kept)}
            self._known[key] = buckets
        return self._known[key]

    def buckets(self) -> list[ParameterBucket]:
        """Return every bucket that holds what is carried for some parameter."""
        return list(dict.fromkeys(self.bucket_of.values()))

    def entries(self) -> dict[Tensor, dict[str, Any]]:
        """Return what this worker carries for each parameter; see ``exchange.state``."""
        carried = {bucket: bucket.state() for bucket in self.buckets()}
        return {p: carried[b][_index(b, p)] for p, b in self.bucket_of.items()}

    def restore(self, groups: Sequence[Sequence[Tensor]], number_of: Mapping[Tensor, int]) -> None:
        """Begin with the buckets of a state dict, from which later compositions take over.

        Args:
            groups: the parameters of each bucket.
            number_of: which of them holds what is carried for a parameter.
        """
        made = [self._make(members) for members in groups]
        self._known = {}
        self.bucket_of = {parameter: made[number] for parameter, number in number_of.items()}

    def _join(self, bucket: ParameterBucket, carries: bool) -> None:
        before = {p: self.bucket_of[p] for p in bucket.parameters if p in self.bucket_of}
        self.bucket_of.update((parameter, bucket) for parameter in bucket.parameters)
        if before and carries:
            take_over(before, bucket, self._wire)

    def _current(self, buckets: Sequence[ParameterBucket]) -> bool:
        return all(self.bucket_of[p] is bucket for bucket in buckets for p in bucket.parameters)


def take_over(
    before: Mapping[Tensor, ParameterBucket], bucket: ParameterBucket, wire: Wire
) -> None:
    """Give a new bucket the residuals of parameters that were in others, exactly.

    Every worker calls it with the same buckets; who owned and who owns what follows from them.

    Args:
        before: for each parameter the bucket it was in.
        bucket: the one all of them are in now.
        wire: the workers; one all-to-all of float32, each value sent at most once.
    """
    outgoing: list[list[Tensor]] = [[] for _ in range(wire.world)]
    incoming: list[list[Tensor]] = [[] for _ in range(wire.world)]
    for parameter, old in before.items():
        one, other = _index(old, parameter), _index(bucket, parameter)
        residuals = bucket.space.views(bucket.stages.worker.residual)
        residuals[other].copy_(old.space.views(old.stages.worker.residual)[one])
        for giver in range(wire.world):
            for taker in range(wire.world):
                given, taken = _owned(old, one, giver), _owned(bucket, other, taker)
                first, last = max(given[0], taken[0]), min(given[1], taken[1])
                if first >= last:
                    continue
                if giver == wire.rank:
                    outgoing[taker].append(_owner_residual(old, one, first, last))
                if taker == wire.rank:
                    incoming[giver].append(_owner_residual(bucket, other, first, last))
    nothing = bucket.scratch.new_empty(0)
    received = wire.exchange(
        [torch.cat(runs) if runs else nothing for runs in outgoing],
        [sum(run.numel() for run in runs) for runs in incoming],
        "moved residuals",
    )
    for runs, values in zip(incoming, received, strict=True):
        for run, value in zip(runs, values.split([r.numel() for r in runs]), strict=True):
            run.copy_(value)


def _index(bucket: ParameterBucket, parameter: Tensor) -> int:
    return next(i for i, p in enumerate(bucket.parameters) if p is parameter)


def _owned(bucket: ParameterBucket, index: int, rank: int) -> tuple[int, int]:
    """The run of a parameter's wire-order values that a worker owns; (0, 0) if none."""
    stripe = bucket.stages.stripes[rank]
    overlaps = bucket.space.overlaps(stripe.start, stripe.stop)
    return next(((first, last) for i, first, last in overlaps if i == index), (0, 0))


def _owner_residual(bucket: ParameterBucket, index: int, first: int, last: int) -> Tensor:
    """The owner residual of a run of a parameter that this worker owns, a view."""
    at = bucket.space.ranges[index][0] - bucket.stripe.start
    return bucket.stages.owner.residual[at + first : at + last]
