"""Ownership of whole parameters, for optimisers that look at whole tensors.

Parameters are shared out among the workers by size. Inside a bucket they lie owner by owner, so
that what a worker owns is one stripe, as everywhere else.

[Graham 1969] is *Bounds on Multiprocessing Timing Anomalies*.
"""

from bisect import bisect_left
from collections.abc import Sequence

from thinwire.exchange.stripes import Stripe
from thinwire.quantize import FlatSpace


def share_out(sizes: Sequence[int], loads: Sequence[int]) -> list[int]:
    """Return an owner for each parameter: the largest first, each to who has least so far.

    Ties go to the first parameter and to the first worker, so every worker finds the same. Where
    nobody owns anything yet, the fullest worker gets at most 4/3 of what it would get if parameters
    were shared out in the best possible way [Graham 1969].

    Args:
        sizes: values of each parameter.
        loads: values that each worker owns already.

    >>> share_out([10, 40, 30, 20], [0, 0])
    [0, 0, 1, 1]
    """
    owners, carried = [0] * len(sizes), list(loads)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[i] = carried.index(min(carried))
        carried[owners[i]] += sizes[i]
    return owners


def whole_stripes(space: FlatSpace, owners: Sequence[int], world: int) -> list[Stripe]:
    """Return one stripe for each worker, of the parameters that it owns.

    Args:
        space: where the parameters lie.
        owners: of each parameter, in ascending order.
        world: the number of workers.

    Raises:
        ValueError: the parameters do not lie owner by owner.
    """
    if list(owners) != sorted(owners):
        raise ValueError(f"owners: expected parameters to lie owner by owner, got {[*owners]}")
    starts = [start for start, _ in space.ranges] + [space.values]
    bounds = [starts[bisect_left(owners, rank)] for rank in range(world + 1)]
    groups = [bisect_left(space.columns.offsets, bound) for bound in bounds]
    return [
        Stripe(bounds[k], bounds[k + 1], groups[k], space.columns.run(groups[k], groups[k + 1]))
        for k in range(world)
    ]
