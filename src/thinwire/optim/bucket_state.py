"""What one worker keeps of an optimiser's buckets, by parameter, whatever the cut in stripes.

See ``exchange.state`` for the form.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange import INNER, State, copy_entry, entries
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.inner_state import inner_entry, load_inner

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
    if "kept" not in counts:
        raise ValueError("state_dict: it was made by a former version of thinwire")
    place = {parameter: i for i, parameter in enumerate(parameters)}
    for bucket in buckets:
        places = [place[parameter] for parameter in bucket.parameters]
        bucket.exchange.stages.sequence = max(counts["sequences"][i] or 0 for i in places)
        bucket.kept = [set(counts["kept"][i] or ()) for i in places]
        bucket.scalars = [dict(counts["scalars"][i] or {}) for i in places]
        start, stop = _owned(bucket, serial)
        if bucket.exchange.whole:
            load_inner(bucket, bucket.owned(start, stop), entry_of)
        names = [] if bucket.exchange.whole else sorted(set().union(*bucket.kept))
        bucket.state = {name: bucket.scratch.new_zeros(stop - start) for name in names}
        bucket.pending = None
        if counts.get("pending") is not None:
            bucket.receive()
        of_owner = {*names, *bucket.state_names}
        for i, target in enumerate(_entries(bucket, serial)):
            lacks = of_owner - bucket.kept[i]
            wanted = {kind: tensor for kind, tensor in target.items() if kind not in lacks}
            wanted = {k: tensor for k, tensor in wanted.items() if not k.startswith(INNER)}
            copy_entry(bucket.names[i], entry_of[bucket.parameters[i]], wanted)


def bucket_counts(
    buckets: Sequence[GroupBucket], parameters: Sequence[Parameter]
) -> dict[str, Any]:
    """The numbers that go with them, by position in ``parameters``; None for those in no bucket."""
    found: dict[Tensor, tuple[int, list[str], dict[str, float]]] = {}
    for bucket in buckets:
        sequence = bucket.exchange.stages.sequence
        kept = [sorted(names) for names in bucket.kept]
        of_bucket = zip(bucket.parameters, kept, bucket.scalars, strict=True)
        found.update((p, (sequence, names, scalars)) for p, names, scalars in of_bucket)
    columns = [found.get(parameter, (None, None, None)) for parameter in parameters]
    return {
        "sequences": [sequence for sequence, _, _ in columns],
        "kept": [kept for _, kept, _ in columns],
        "scalars": [scalars for _, _, scalars in columns],
    }


def _entries(bucket: GroupBucket, serial: bool) -> list[Entry]:
    """For each parameter of a bucket what this worker keeps, as views.

    Of the owner's state there is also what the first update would make, as zeros: checkpointers
    fill only what is there. "kept" among the counts says what is more than that.
    """
    stages = bucket.exchange.stages
    whole = {"residual": stages.worker.residual}
    local = bucket.local_adagrad()
    if local is not None:
        whole["local_adagrad"] = local.sum_of_squares
    if bucket.pending is not None:
        whole["pending"] = bucket.pending
    start, stop = _owned(bucket, serial)
    to_come = [name for name in bucket.state_names if name not in bucket.state]
    owned = {**bucket.state, **{name: bucket.scratch.new_zeros(stop - start) for name in to_come}}
    if not serial:
        owned["owner_residual"] = stages.owner.residual
    found = entries(bucket.space, whole, owned, (start, stop))
    if bucket.exchange.whole:
        for i in bucket.owned(start, stop):
            found[i] |= inner_entry(bucket, i)
    return found


def _owned(bucket: GroupBucket, serial: bool) -> tuple[int, int]:
    """The run of the bucket's values whose owner state this worker holds."""
    stages = bucket.exchange.stages
    if not serial:
        return stages.stripe.start, stages.stripe.stop
    return (0, bucket.space.values) if stages.rank == 0 else (0, 0)
