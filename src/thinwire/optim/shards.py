"""One worker's share of a bucket's state, keyed by parameter, independent of the cut in stripes.

Worker residuals are whole parameters, one copy per worker. Owner state covers the wire-order run
``owned`` of each parameter; the runs of all workers tile it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from thinwire.optim.bucket import Bucket

Entry = dict[str, Any]


def worker_state(bucket: Bucket, *, serial: bool) -> dict[Parameter, Entry]:
    """Views of everything this worker keeps, one entry for each parameter.

    Args:
        bucket: the bucket.
        serial: in a serial cold start worker 0 owns whole buckets, the others nothing.
    """
    entries: dict[Parameter, Entry] = {
        parameter: {"residual": view}
        for parameter, view in _whole(bucket, bucket.exchange.worker.residual)
    }
    if bucket.local is not None:
        for parameter, view in _whole(bucket, bucket.local.sum_of_squares):
            entries[parameter]["local_adagrad"] = view
    start, stop = _owned(bucket, serial)
    tensors = dict(bucket.state)
    if not serial:
        tensors["owner_residual"] = bucket.exchange.owner.residual
    for i, first, last in bucket.space.overlaps(start, stop):
        at = bucket.space.ranges[i][0] + first - start
        entry = entries[bucket.parameters[i]]
        entry["owned"] = (first, last)
        entry |= {name: tensor[at : at + last - first] for name, tensor in tensors.items()}
    return entries


def load_worker_state(bucket: Bucket, entries: Mapping[Parameter, Entry], *, serial: bool) -> None:
    """Copy entries made by ``worker_state`` into the bucket.

    Raises:
        ValueError: an entry does not cover what this worker owns.
    """
    bucket.state = {}
    start, stop = _owned(bucket, serial)
    for i, first, last in bucket.space.overlaps(start, stop):
        entry = entries[bucket.parameters[i]]
        if tuple(entry.get("owned", ())) != (first, last):
            raise ValueError(
                f"{bucket.names[i]}: this worker owns values {first}..{last - 1}, the state "
                f"covers {entry.get('owned', 'none')}"
            )
        for name in entry.keys() & {"momentum", "adagrad"}:
            if name not in bucket.state:
                bucket.state[name] = bucket.scratch.new_zeros(stop - start)
    targets = worker_state(bucket, serial=serial)
    for parameter, target in targets.items():
        for name, tensor in target.items():
            if isinstance(tensor, Tensor):
                tensor.copy_(entries[parameter][name])


def _whole(bucket: Bucket, flat: Tensor) -> Iterator[tuple[Parameter, Tensor]]:
    return zip(bucket.parameters, bucket.space.views(flat), strict=True)


def _owned(bucket: Bucket, serial: bool) -> tuple[int, int]:
    """The run of the bucket's values whose owner state this worker holds."""
    if not serial:
        return bucket.exchange.stripe.start, bucket.exchange.stripe.stop
    return (0, bucket.space.values) if bucket.exchange.rank == 0 else (0, 0)
