"""One parameter's state over model ranks: shards -> the whole parameter -> other shards.

An entry is one parameter's part of a state dict (``exchange.state``). Here its owner state covers
all values the entry is of, as ``reshard`` leaves it; so data ranks are out of the way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from thinwire.exchange.state import PER_WORKER
from thinwire.quantize import Axis, from_wire, to_wire

Entry = Mapping[str, Any]


def local(tensor: Tensor) -> Tensor:
    """Return what this worker holds of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_real(tensor: Tensor) -> Tensor:
    """Return the real numbers of a tensor, sharing its memory unless they wait to be conjugated.

    >>> as_real(torch.tensor([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    return torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor


def shard_of(tensor: Tensor, dim: int | None, rank: int, world: int) -> Tensor:
    """What a model rank holds of a whole tensor, as torch's Shard(dim) cuts it: a view.

    >>> [shard_of(torch.arange(5), 0, rank, 4).tolist() for rank in range(4)]
    [[0, 1], [2, 3], [4], []]
    """
    if dim is None:
        return tensor
    pieces = tensor.chunk(world, dim)
    return pieces[rank] if rank < len(pieces) else tensor.narrow(dim, 0, 0)


def join_shards(entries: Sequence[Entry], dim: int | None, axis: Axis) -> dict[str, Any]:
    """The whole parameter's entry out of every model rank's.

    Args:
        entries: in rank order.
        dim: along which the parameter is sharded; None: all ranks hold the same.
        axis: of the wire order.
    """
    if dim is None:
        return dict(entries[0])
    shapes = [entry["residual"].shape for entry in entries]
    whole: dict[str, Any] = {
        kind: torch.cat([entry[kind] for entry in entries], dim)
        for kind in PER_WORKER
        if kind in entries[0]
    }
    kinds = {kind for entry in entries for kind in _owned_kinds(entry)}
    for kind in sorted(kinds):
        # A shard without values has no owner.
        nothing = next(entry[kind] for entry in entries if kind in entry)[:0]
        tiles = [
            from_wire(e.get(kind, nothing), s, axis) for e, s in zip(entries, shapes, strict=True)
        ]
        whole[kind] = to_wire(torch.cat(tiles, dim), axis)
    if kinds:
        whole["owned"] = (0, whole["residual"].numel())
    return whole


def take_shard(entry: Entry, dim: int | None, axis: Axis, rank: int, world: int) -> dict[str, Any]:
    """The inverse: one model rank's entry out of the whole parameter's."""
    if dim is None:
        return dict(entry)
    shape = entry["residual"].shape
    part: dict[str, Any] = {
        kind: shard_of(entry[kind], dim, rank, world) for kind in PER_WORKER if kind in entry
    }
    for kind in _owned_kinds(entry):
        whole = from_wire(entry[kind], shape, axis)
        part[kind] = to_wire(shard_of(whole, dim, rank, world), axis)
    if "owned" in entry:
        part["owned"] = (0, part["residual"].numel())
    return part


def _owned_kinds(entry: Entry) -> list[str]:
    return [kind for kind in entry if kind not in ("owned", *PER_WORKER)]
