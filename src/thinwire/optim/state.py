"""What one worker keeps of an optimiser's buckets, by parameter, whatever the cut in stripes.

See ``exchange.state`` for the form.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import State, copy_entry
from thinwire.optim.bucket import Bucket

Entry = dict[str, Any]


def worker_state(
    buckets: Sequence[Bucket], parameters: Sequence[Parameter], *, serial: bool
) -> dict[int, Entry]:
    """Views of everything this worker keeps, by position in ``parameters``.

    Args:
        buckets: the optimiser's.
        parameters: the optimiser's, of which those in no bucket have no entry.
        serial: in a serial cold start worker 0 owns whole buckets, the others nothing.
    """
    entries: dict[Parameter, Entry] = {}
    for bucket in buckets:
        entries |= _entries(bucket, serial)
    return {i: entries[p] for i, p in enumerate(parameters) if p in entries}


def load_worker_state(
    buckets: Sequence[Bucket],
    groups: Sequence[dict[str, Any]],
    state: State,
    counts: Mapping[str, Any],
    *,
    serial: bool,
) -> None:
    """Copy a state dict into the buckets.

    Args:
        buckets: the optimiser's.
        groups: its param groups.
        state: made by ``worker_state`` or by ``reshard`` of those. As in torch, a parameter's key
            is what "param_groups" calls it, by position: a number, or a name.
        counts: with those of ``bucket_counts``, and "pending" if an update is in flight.
        serial: as in ``worker_state``.

    Raises:
        ValueError: an entry lacks something, is of another shape, or does not cover what this
            worker owns.
    """
    keys = [key for group in state["param_groups"] for key in group["params"]]
    parameters = [p for group in groups for p in group["params"]]
    stored: State = state["state"]
    # torch.distributed.checkpoint turns keys that are numbers into text.
    entry_of = {
        p: stored.get(key, stored.get(str(key), {}))
        for key, p in zip(keys, parameters, strict=True)
    }
    numbers = _group_numbers(buckets, groups)
    sequences = _of_buckets(counts, "sequences", numbers)
    scalars_of = _of_buckets(counts, "scalars", numbers)
    for bucket, sequence, scalars in zip(buckets, sequences, scalars_of, strict=True):
        bucket.exchange.sequence = sequence
        bucket.scalars, bucket.state = dict(scalars), {}
        bucket.pending = None
        if counts.get("pending") is not None:
            bucket.receive()
        targets = _entries(bucket, serial)
        for name, parameter in zip(bucket.names, bucket.parameters, strict=True):
            copy_entry(name, entry_of[parameter], targets[parameter])


def bucket_counts(buckets: Sequence[Bucket], groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers that go with them."""
    return {
        "bucket_groups": _group_numbers(buckets, groups),
        "sequences": [bucket.exchange.sequence for bucket in buckets],
        "scalars": [bucket.scalars for bucket in buckets],
    }


def _group_numbers(buckets: Sequence[Bucket], groups: Sequence[dict[str, Any]]) -> list[int]:
    number_of = {id(group): number for number, group in enumerate(groups)}
    return [number_of[id(bucket.group)] for bucket in buckets]


def _of_buckets(counts: Mapping[str, Any], name: str, numbers: Sequence[int]) -> list[Any]:
    """What was counted by bucket, for buckets that may be cut in another way.

    It is the same for all buckets of a param group. Shards of another size may make another number
    of them.
    """
    if "bucket_groups" not in counts:  # states of former versions, whose buckets are these
        return list(counts[name])
    of_group = dict(zip(counts["bucket_groups"], counts[name], strict=True))
    if missing := set(numbers) - of_group.keys():
        raise ValueError(f"state_dict: it has nothing of param group {min(missing)}")
    return [of_group[number] for number in numbers]


def _entries(bucket: Bucket, serial: bool) -> dict[Parameter, Entry]:
    entries: dict[Parameter, Entry] = {
        parameter: {"residual": view}
        for parameter, view in _whole(bucket, bucket.exchange.worker.residual)
    }
    if bucket.local is not None:
        for parameter, view in _whole(bucket, bucket.local.sum_of_squares):
            entries[parameter]["local_adagrad"] = view
    if bucket.pending is not None:
        for parameter, view in _whole(bucket, bucket.pending):
            entries[parameter]["pending"] = view
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


def _whole(bucket: Bucket, flat: Tensor) -> Iterator[tuple[Parameter, Tensor]]:
    return zip(bucket.parameters, bucket.space.views(flat), strict=True)


def _owned(bucket: Bucket, serial: bool) -> tuple[int, int]:
    """The run of the bucket's values whose owner state this worker holds."""
    if not serial:
        return bucket.exchange.stripe.start, bucket.exchange.stripe.stop
    return (0, bucket.space.values) if bucket.exchange.rank == 0 else (0, 0)
