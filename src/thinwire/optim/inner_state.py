"""What the owner's optimiser keeps of whole parameters: stored, loaded, and handed over.

It is tensors of any shape and dtype and a few numbers for each parameter, on its owner alone.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thinwire.exchange import INNER, State, Wire, share_text
from thinwire.optim.group_bucket import GroupBucket


def inner_entry(bucket: GroupBucket, i: int) -> dict[str, Tensor]:
    """Return what is kept of the i-th parameter, as a state dict has it.

    Before the first update there are zeros of the same form, since checkpointers fill only what is
    there already; "kept" among the counts says so.
    """
    kept: Mapping[str, Tensor] = bucket.inner[i]
    if not kept and not bucket.scalars[i]:
        kept = {name: torch.zeros_like(like) for name, like in bucket.first_state(i).items()}
    return {INNER + name: tensor for name, tensor in kept.items()}


def load_inner(bucket: GroupBucket, owned: Sequence[int], entry_of: Mapping[Tensor, State]) -> None:
    """Copy what "kept" and "scalars", which the bucket has already, say that there is.

    Args:
        bucket: receives it.
        owned: the parameters that this worker owns; of the others it forgets everything.
        entry_of: for each parameter its part of the state dict.

    Raises:
        ValueError: an entry lacks something, or is of another shape.
    """
    bucket.inner = [{} for _ in bucket.parameters]
    for i, names in enumerate(bucket.kept):
        if i not in owned:
            bucket.kept[i], bucket.scalars[i] = set(), {}
        elif names:
            entry = entry_of[bucket.parameters[i]]
            form = bucket.first_state(i)
            bucket.inner[i] = {n: _copied(bucket, i, n, entry, form) for n in sorted(names)}


def scatter_inner(bucket: GroupBucket, wire: Wire, stage: str) -> None:
    """Hand what worker 0 keeps of all parameters to their owners; every worker calls it.

    Args:
        bucket: of which worker 0 has kept everything so far.
        wire: the workers.
        stage: where the ledger enters it.
    """
    stripes = bucket.exchange.stages.stripes
    owned = [bucket.owned(stripe.start, stripe.stop) for stripe in stripes]
    forms = [
        [(name, *_form(tensor)) for name, tensor in sorted(kept.items())] for kept in bucket.inner
    ]
    told = json.dumps({"forms": forms, "scalars": bucket.scalars})
    known = json.loads(share_text(told, wire, stage))
    sizes = [
        sum(_bytes(dtype, shape) for i in run for _, dtype, shape, _ in known["forms"][i])
        for run in owned
    ]
    device = bucket.scratch.device
    nothing = torch.empty(0, dtype=torch.uint8, device=device)
    tensors = [tensor for kept in bucket.inner for _, tensor in sorted(kept.items())]
    raw = [tensor.to(device).reshape(-1).view(torch.uint8) for tensor in tensors]
    content = wire.scatter(torch.cat([nothing, *raw]), sizes, stage)
    bucket.inner = [{} for _ in bucket.parameters]
    at = 0
    for i in owned[wire.rank]:
        for name, dtype, shape, on_host in known["forms"][i]:
            size = _bytes(dtype, shape)
            # A copy, since a view as wider values must begin at a multiple of their size.
            part = content[at : at + size].clone().view(getattr(torch, dtype)).view(shape)
            bucket.inner[i][name] = part.cpu() if on_host else part
            at += size
    bucket.kept = [set(kept) for kept in bucket.inner]
    bucket.scalars = [
        known["scalars"][i] if i in owned[wire.rank] else {} for i in range(len(bucket.parameters))
    ]


def _copied(bucket: GroupBucket, i: int, name: str, entry: State, form: State) -> Tensor:
    """One stored tensor, where and how the optimiser will want it."""
    if INNER + name not in entry:
        raise ValueError(
            f"{bucket.names[i]}: expected {INNER + name!r} in its state, found {[*entry]}"
        )
    stored: Tensor = entry[INNER + name]
    like = form.get(name, stored.to(bucket.scratch.device))
    if stored.shape != like.shape:
        raise ValueError(
            f"{bucket.names[i]}: expected a {name} of shape {[*like.shape]}, got {[*stored.shape]}"
        )
    return stored.detach().to(like.device, copy=True)


def _form(tensor: Tensor) -> tuple[str, list[int], bool]:
    """The name of its dtype, its shape, and whether it is in host memory."""
    return str(tensor.dtype).removeprefix("torch."), [*tensor.shape], tensor.device.type == "cpu"


def _bytes(dtype: str, shape: Sequence[int]) -> int:
    kind: Any = getattr(torch, dtype)
    return int(kind.itemsize) * torch.Size(shape).numel()
