"""One step of a torch optimiser on what a worker owns: runs of values, or whole parameters.

The optimiser is made anew for it, so that the options of a param group count as they are now, and
is given what it kept of each parameter. The update is parameters before - parameters after.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.optim.group_bucket import GroupBucket
from thinwire.quantize import from_wire, to_wire

FEW = 6  # values on which an optimiser shows what it keeps; not the shape of any scalar
Kind = type[torch.optim.Optimizer]


def update_runs(
    bucket: GroupBucket,
    kind: Kind,
    options: Mapping[str, Any],
    form: Mapping[str, Any],
    gradient: Tensor,
    start: int,
) -> None:
    """Have an optimiser see this owner's part of each parameter as a parameter of its own.

    It may be empty, so that what is counted by parameter, such as Adam's steps, is the same on
    every worker. A parameter that is idle has no gradient, and the optimiser leaves it alone.

    Args:
        bucket: whose ``state`` covers the same run of values, or is still empty.
        kind: of the optimiser.
        options: its options.
        form: what it keeps of ``FEW`` values.
        gradient: float32 ``[n]``, of the bucket's values from ``start`` on; becomes the update.
        start: index of the first value.
    """
    before = bucket.own_values(start, start + len(gradient))
    after = before.clone()
    runs = bucket.owned_runs(start, start + len(gradient))
    parts = [after[run].requires_grad_() for run in runs]
    inner = kind(parts, **options)
    given = [_state_of(bucket, i, run, form) for i, run in enumerate(runs)]
    for part, run, state, idle in zip(parts, runs, given, bucket.exchange.idle, strict=True):
        part.grad = None if idle else gradient[run]
        if state:
            inner.state[part] = dict(state)
    inner.step()
    for i, (part, run) in enumerate(zip(parts, runs, strict=True)):
        for name, value in inner.state.get(part, {}).items():
            if not per_value(form.get(name)):
                bucket.scalars[i] |= {} if value is None else {name: float(value)}
            elif value is not given[i].get(name):  # else it is a view of what is kept
                bucket.state.setdefault(name, torch.zeros_like(gradient))[run] = value
                bucket.kept[i].add(name)
    torch.sub(before, after, out=gradient)


def update_whole(
    bucket: GroupBucket, kind: Kind, options: Mapping[str, Any], gradient: Tensor, start: int
) -> None:
    """Have an optimiser see the parameters that this worker owns, in their own shapes.

    Those that are idle it does not see.

    Args:
        bucket: whose ``inner`` and ``scalars`` are of these parameters.
        kind: of the optimiser.
        options: its options.
        gradient: float32 ``[n]``, of whole parameters from ``start`` on; becomes the update.
        start: index of the first value.
    """
    stop = start + len(gradient)
    values, runs = bucket.own_values(start, stop), bucket.owned_runs(start, stop)
    seen = [i for i in bucket.owned(start, stop) if not bucket.exchange.idle[i]]
    if not seen:
        return
    parts = [Parameter(_in_shape(bucket, i, values[runs[i]])) for i in seen]
    inner = kind(parts, **options)
    for i, part in zip(seen, parts, strict=True):
        part.grad = _in_shape(bucket, i, gradient[runs[i]])
        known = {**bucket.inner[i], **bucket.scalars[i]}
        if known:
            inner.state[part] = known
    inner.step()
    for i, part in zip(seen, parts, strict=True):
        after = to_wire(part.detach(), bucket.space.axis)
        torch.sub(values[runs[i]], after, out=gradient[runs[i]])
        known = dict(inner.state.get(part, {}))
        bucket.inner[i] = {n: value for n, value in known.items() if isinstance(value, Tensor)}
        bucket.scalars[i] = {n: v for n, v in known.items() if isinstance(v, (int, float))}
        bucket.kept[i] = set(bucket.inner[i])


def per_value(value: Any) -> bool:
    """Whether something kept of ``FEW`` values has an entry for each of them."""
    return isinstance(value, Tensor) and value.shape == (FEW,)


def _in_shape(bucket: GroupBucket, i: int, run: Tensor) -> Tensor:
    """A copy of the i-th parameter's wire-order values in its shape."""
    shaped = from_wire(run, bucket.space.shapes[i], bucket.space.axis)
    return shaped.clone(memory_format=torch.contiguous_format)


def _state_of(bucket: GroupBucket, i: int, run: slice, form: Mapping[str, Any]) -> dict[str, Any]:
    """What the optimiser knows of this owner's part, ``run``, of the i-th parameter."""
    scalars = {n: _scalar(value, form.get(n)) for n, value in bucket.scalars[i].items()}
    return {**{name: bucket.state[name][run] for name in bucket.kept[i]}, **scalars}


def _scalar(value: float, like: Any) -> Any:
    """A number of the optimiser's state in the form that the optimiser gives it."""
    if not isinstance(like, Tensor):
        return value
    return torch.tensor(value, dtype=like.dtype, device="cpu")
