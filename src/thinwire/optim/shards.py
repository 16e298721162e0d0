"""One worker's share of a bucket's state, keyed by parameter, independent of the cut in stripes.

Worker residuals are whole parameters, one copy per worker. Owner state covers the wire-order run
``owned`` of each parameter; the runs of all workers tile it. A state to be loaded may cover more
than this worker owns (``reshard`` gives whole parameters); it takes its own run of it.
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
    for name in bucket.state_names:  # what the first step would make, so that all is there
        bucket.state.setdefault(name, bucket.scratch.new_zeros(stop - start))
    tensors = dict(bucket.state)
    if not serial:
        tensors["owner_residual"] = bucket.exchange.owner.residual
    for i, first, last in bucket.space.overlaps(start, stop):
        at = bucket.space.ranges[i][0] + first - start
        entry = entries[bucket.parameters[i]]
        entry["owned"] = (first, last)
        entry |= {name: tensor[at : at + last - first] for name, tensor in tensors.items()}
    return entries


def load_worker_state(
    bucket: Bucket, entries: Mapping[Parameter, Mapping[str, Any]], *, serial: bool
) -> None:
    """Copy entries made by ``worker_state``, or by ``reshard`` of those, into the bucket.

    Raises:
        ValueError: an entry lacks something, is of another shape, or does not cover what this
            worker owns.
    """
    bucket.state = {}
    targets = worker_state(bucket, serial=serial)
    for name, parameter in zip(bucket.names, bucket.parameters, strict=True):
        target, entry = targets[parameter], entries[parameter]
        for kind, tensor in target.items():
            if kind == "owned":
                continue
            if kind not in entry:
                raise ValueError(f"{name}: expected {kind!r} in its state, found {[*entry]}")
            source = entry[kind]
            if kind not in ("residual", "local_adagrad"):
                source = _run_of(source, entry["owned"], target["owned"], name)
            if source.shape != tensor.shape:
                raise ValueError(
                    f"{name}: expected a {kind} of shape {[*tensor.shape]}, got {[*source.shape]}"
                )
            tensor.copy_(source)


def _run_of(tensor: Tensor, covered: tuple[int, int], wanted: tuple[int, int], name: str) -> Tensor:
    """The part of a tensor that covers one run of values which belongs to another run."""
    (start, stop), (first, last) = covered, wanted
    if not start <= first <= last <= stop:
        raise ValueError(
            f"{name}: this worker owns values {first}..{last - 1}, the state covers "
            f"{start}..{stop - 1}"
        )
    return tensor[first - start : last - start]


def _whole(bucket: Bucket, flat: Tensor) -> Iterator[tuple[Parameter, Tensor]]:
    return zip(bucket.parameters, bucket.space.views(flat), strict=True)


def _owned(bucket: Bucket, serial: bool) -> tuple[int, int]:
    """The run of the bucket's values whose owner state this worker holds."""
    if not serial:
        return bucket.exchange.stripe.start, bucket.exchange.stripe.stop
    return (0, bucket.space.values) if bucket.exchange.rank == 0 else (0, 0)
