"""The form all state dicts have: what one worker carries by parameter, and its counts.

    {"state": {parameter: {"residual", "owned", "owner_residual", ...}}, "thinwire": counts}

"residual" has the parameter's shape, one for each worker. What an owner keeps covers the wire-order
values ``owned[0] .. owned[1] - 1`` of the parameter, flat; the runs of all workers tile it, and a
parameter of which a worker owns nothing has no "owned". Complex parameters count as real ones of
shape [..., 2], as torch.view_as_real has them. All of it is in logical order, whatever the memory
format of a parameter is.

Where a worker owns whole parameters, ``owned`` is all of a parameter or absent, and what the
owner's optimiser keeps of it is under names that begin with "inner.", in any shape and dtype.

An optimiser's dict has torch's "param_groups" too, and its counts are in the first of them:
torch.distributed.checkpoint.state_dict drops every other key. Of a DTensor all of this is this
worker's shard's; the counts then say which model rank that is, and along which dimension each
parameter is sharded.

Counts are JSON text. Checkpointers cut dictionaries into leaves and fill only leaves that are there
already, so a ledger with a new stage would lose it; a text stays whole.
"""

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from thinwire.quantize import FlatSpace

State = Mapping[str, Any]
PER_WORKER = ("residual", "local_adagrad")  # whole parameters; the rest covers the run "owned"
# Of local steps: where a worker is in an unfinished round, and where it was when the last was sent.
IN_ROUND = ("local", "sent")
# The same on every worker: HessianFree's, the update in flight, and local steps' anchor.
REPLICATED = ("step", "gradient", "fisher", "pending", "anchor")
INNER = "inner."  # before the names of what an optimiser of whole tensors keeps
_COUNTS = "thinwire"


def counts_of(state: State) -> dict[str, Any]:
    """The counts of a state dict.

    Raises:
        ValueError: it has none, so something else made it.
    """
    groups = state.get("param_groups")
    text = (groups[0] if groups else state).get(_COUNTS)
    if not isinstance(text, str):
        raise ValueError("state_dict: it was not made by thinwire")
    counts: dict[str, Any] = json.loads(text)
    return counts


def with_counts(state: State, counts: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with these counts in place of those it has.

    >>> counts_of(with_counts({"state": {}}, {"rank": 1}))
    {'rank': 1}
    """
    text = json.dumps(counts)
    if "param_groups" not in state:
        return {**state, _COUNTS: text}
    first, *others = state["param_groups"]
    return {**state, "param_groups": [{**first, _COUNTS: text}, *others]}


def without_counts(state: State) -> dict[str, Any]:
    """A copy of an optimiser's state dict that torch.optim.Optimizer understands."""
    groups = [{k: v for k, v in g.items() if k != _COUNTS} for g in state["param_groups"]]
    return {**state, "param_groups": groups}


def check_counts(counts: Mapping[str, Any], **own: Any) -> None:
    """Refuse the state of another worker, or of a job set up in another way.

    Args:
        counts: of the state that is to be loaded.
        own: what this worker has under the same names.

    Raises:
        ValueError: they differ, naming the first that does.
    """
    for name, value in own.items():
        if counts[name] != value:
            adapts = name in ("rank", "world", "model_rank", "model_world")
            hint = "; thinwire.reshard(states, rank, world) adapts it" if adapts else ""
            raise ValueError(f"state_dict: it is for {name} {counts[name]}, this is {value}{hint}")


def entries(
    space: FlatSpace,
    whole: Mapping[str, Tensor],
    owned: Mapping[str, Tensor],
    run: tuple[int, int],
) -> list[dict[str, Any]]:
    """Return what one worker keeps for each parameter of a bucket, as views of the buffers.

    Args:
        space: where the parameters lie, V values in all.
        whole: by kind, ``[V]``: what the worker keeps of all values.
        owned: by kind, ``[stop - start]``: what it keeps of the values it owns.
        run: (start, stop) of those.
    """
    start, stop = run
    views = {kind: space.views(flat) for kind, flat in whole.items()}
    found: list[dict[str, Any]] = [
        {kind: view[i] for kind, view in views.items()} for i in range(len(space.shapes))
    ]
    for i, first, last in space.overlaps(start, stop):
        at = space.ranges[i][0] + first - start
        found[i]["owned"] = (first, last)
        found[i] |= {kind: flat[at : at + last - first] for kind, flat in owned.items()}
    return found


def copy_entry(name: str, source: State, target: State) -> None:
    """Copy what one parameter carries into live buffers.

    Args:
        name: the parameter, for errors.
        source: a stored entry; its "owned" may cover more than the target's.
        target: an entry whose tensors are views of the buffers.

    Raises:
        ValueError: the source lacks something, is of another shape, or does not cover what the
            target owns.
    """
    for kind, tensor in target.items():
        if kind == "owned":
            continue
        if kind not in source:
            raise ValueError(f"{name}: expected {kind!r} in its state, found {[*source]}")
        values: Tensor = source[kind]
        if "owned" in target and kind not in (*PER_WORKER, *REPLICATED):
            values = _run_of(values, source["owned"], target["owned"], name)
        if values.shape != tensor.shape:
            raise ValueError(
                f"{name}: expected a {kind} of shape {[*tensor.shape]}, got {[*values.shape]}"
            )
        tensor.copy_(values)


def _run_of(tensor: Tensor, covered: tuple[int, int], wanted: tuple[int, int], name: str) -> Tensor:
    """The part of a tensor that covers one run of values which belongs to another run."""
    (start, stop), (first, last) = covered, wanted
    if not start <= first <= last <= stop:
        raise ValueError(
            f"{name}: this worker owns values {first}..{last - 1}, the state covers "
            f"{start}..{stop - 1}"
        )
    return tensor[first - start : last - start]
