"""Parameters that come to travel in another bucket: what was carried for them goes with them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from thinwire.exchange.bucket import ParameterBucket
from thinwire.exchange.wire import Wire


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
