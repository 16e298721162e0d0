"""What one worker keeps of an optimiser's buckets, by parameter, whatever the cut in stripes.

See ``exchange.state`` for the form.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import State, copy_entry, entries
from thinwire.optim.group_bucket import GroupBucket

Entry = dict[str, Any]


def worker_state(
    buckets: Sequence[GroupBucket], parameters: Sequence[Parameter], *, serial: bool
) -> dict[int, Entry]:
    """Return views of everything this worker keeps, by position in ``parameters``.

    Args:
        buckets: the optimiser's.
        parameters: the optimiser's, of which those in no bucket have no entry.
        serial: in a serial cold start worker 0 owns whole buckets, the others nothing.
    """
    entry_of: dict[Tensor, Entry] = {}
    for bucket in buckets:
        entry_of.update(zip(bucket.parameters, _entries(bucket, serial), strict=True))
    return {i: entry_of[p] for i, p in enumerate(parameters) if p in entry_of}


def load_worker_state(
    buckets: Sequence[GroupBucket],
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
    entry_of: dict[Tensor, State] = {
        p: stored.get(key, stored.get(str(key), {}))
        for key, p in zip(keys, parameters, strict=True)
    }
    numbers = _group_numbers(buckets, groups)
    sequences = _of_buckets(counts, "sequences", numbers)
    scalars_of = _of_buckets(counts, "scalars", numbers)
    for bucket, sequence, scalars in zip(buckets, sequences, scalars_of, strict=True):
        bucket.exchange.stages.sequence = sequence
        bucket.scalars, bucket.state = dict(scalars), {}
        bucket.pending = None
        if counts.get("pending") is not None:
            bucket.receive()
        targets = zip(bucket.names, bucket.parameters, _entries(bucket, serial), strict=True)
        for name, parameter, target in targets:
            copy_entry(name, entry_of[parameter], target)


def bucket_counts(
    buckets: Sequence[GroupBucket], groups: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The numbers that go with them."""
    return {
        "bucket_groups": _group_numbers(buckets, groups),
        "sequences": [bucket.exchange.stages.sequence for bucket in buckets],
        "scalars": [bucket.scalars for bucket in buckets],
    }


def _group_numbers(buckets: Sequence[GroupBucket], groups: Sequence[dict[str, Any]]) -> list[int]:
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


def _entries(bucket: GroupBucket, serial: bool) -> list[Entry]:
    """For each parameter of a bucket what this worker keeps, as views."""
    stages = bucket.exchange.stages
    whole = {"residual": stages.worker.residual}
    if bucket.local is not None:
        whole["local_adagrad"] = bucket.local.sum_of_squares
    if bucket.pending is not None:
        whole["pending"] = bucket.pending
    start, stop = _owned(bucket, serial)
    for name in bucket.state_names:  # what the first step would make, so that all is there
        bucket.state.setdefault(name, bucket.scratch.new_zeros(stop - start))
    owned = dict(bucket.state)
    if not serial:
        owned["owner_residual"] = stages.owner.residual
    return entries(bucket.space, whole, owned, (start, stop))


def _owned(bucket: GroupBucket, serial: bool) -> tuple[int, int]:
    """The run of the bucket's values whose owner state this worker holds."""
    stages = bucket.exchange.stages
    if not serial:
        return stages.stripe.start, stages.stripe.stop
    return (0, bucket.space.values) if stages.rank == 0 else (0, 0)
