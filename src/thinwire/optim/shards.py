"""Model parallelism under an optimiser: DTensor parameters, of which each model rank has a shard.

On a 2-D mesh ("data", "model") the workers of one column hold the same shards of different samples'
gradients: they are the exchange's. Those of one row hold the other shards of the same gradients;
here they only agree on what all must do alike. S sections 4 and 5.5.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn import Parameter

from thinwire.exchange import State, Wire, check_counts, counts_of, shared_wire
from thinwire.exchange.shards import take_shard
from thinwire.quantize import Axis

_STAGE = "model agreement"


def sharded_dim(parameter: Tensor) -> int | None:
    """The dimension along which model ranks share a parameter; None: each holds all of it."""
    placement = parameter.placements[0] if isinstance(parameter, DTensor) else None
    return placement.dim if isinstance(placement, Shard) else None


def lay_out_gradient(parameter: Tensor) -> None:
    """Bring a gradient that torch left in parts or whole into its parameter's layout, in place.

    It may communicate between model ranks, so it belongs to the thread that runs backward.
    """
    gradient = parameter.grad
    if not isinstance(parameter, DTensor) or not isinstance(gradient, DTensor):
        return
    if gradient.placements != parameter.placements:
        parameter.grad = gradient.redistribute(placements=parameter.placements)


def model_wire(
    parameters: Sequence[tuple[str, Parameter]], data: Wire, known: Wire | None = None
) -> Wire | None:
    """The model ranks that hold the other shards; None where every parameter is an ordinary one.

    Args:
        parameters: of an optimiser.
        data: the workers that exchange their gradients.
        known: what other parameters of the optimiser gave.

    Raises:
        ValueError: a DTensor's layout cannot work with the exchange, naming the parameter.
    """
    for name, parameter in parameters:
        if isinstance(parameter, DTensor):
            _check_layout(name, parameter, data)
            wire = shared_wire(parameter.device_mesh.get_group(), data.ledger)
            if known is not None and known.group != wire.group:
                raise ValueError(f"{name}: expected the mesh of the other parameters, got another")
            known = wire
    return known


def agree(
    found: tuple[int, str] | None, names: Sequence[str], model: Wire
) -> tuple[int, str] | None:
    """The (worker, parameter) of the first model rank that found any, on all of them.

    Args:
        found: this rank's.
        names: all parameters', the same on every rank.
        model: the ranks.
    """
    number = -1 if found is None else found[0] * len(names) + names.index(found[1])
    everyone = model.all_gather(torch.tensor([number], dtype=torch.int64, device="cpu"), _STAGE)
    first = next((int(other) for other in everyone if other >= 0), -1)
    return None if first < 0 else (first // len(names), names[first % len(names)])


def grid_counts(parameters: Sequence[Parameter], model: Wire | None) -> dict[str, Any]:
    """What a state dict says of the shards it is of; nothing where parameters are whole."""
    if model is None or model.world == 1:
        return {}
    dims = [sharded_dim(parameter) for parameter in parameters]
    return {"model_rank": model.rank, "model_world": model.world, "sharded": dims}


def own_shards(
    state: State, parameters: Sequence[Parameter], axis: Axis, model: Wire | None
) -> State:
    """What of a state dict is this model rank's, if it is of whole parameters (``reshard``).

    Args:
        state: of this worker's shards, which comes back as it is, or of whole parameters.
        parameters: the optimiser's, in the order of its param groups.
        axis: of the wire order.
        model: the model ranks.

    Raises:
        ValueError: it is of other shards, or of a part of whole parameters' owner state.
    """
    rank, world = (0, 1) if model is None else (model.rank, model.world)
    counts = counts_of(state)
    if "model_world" in counts:
        check_counts(counts, model_rank=rank, model_world=world)
        return state
    if world == 1:
        return state
    keys = [str(key) for group in state["param_groups"] for key in group["params"]]
    dim_of = {k: sharded_dim(p) for k, p in zip(keys, parameters, strict=True)}
    entries = {}
    for key, entry in state["state"].items():
        if "owned" in entry and tuple(entry["owned"]) != (0, entry["residual"].numel()):
            raise ValueError(
                f"state_dict: it is for model_world 1, this is {world}; "
                "thinwire.reshard(states, rank, world, model_rank, model_world) adapts it"
            )
        entries[key] = take_shard(entry, dim_of[str(key)], axis, rank, world)
    return {**state, "state": entries}


def _check_layout(name: str, parameter: DTensor, data: Wire) -> None:
    mesh, own = parameter.device_mesh, dist.get_rank()
    if mesh.ndim != 1:
        raise ValueError(
            f'{name}: expected a one-dimensional mesh such as mesh["model"], got {mesh.ndim} '
            f"dimensions {mesh.mesh_dim_names or ''}"
        )
    for placement in parameter.placements:
        if type(placement) not in (Shard, Replicate):
            raise ValueError(f"{name}: expected a sharded or replicated DTensor, got {placement}")
    exchanging = set(dist.get_process_group_ranks(data.group))
    shared = sorted(exchanging.intersection(mesh.mesh.tolist()) - {own})
    if shared:
        raise ValueError(
            f"{name}: its shards are on workers {sorted({own, *shared})}, which the exchange takes "
            "for replicas with gradients of their own: parallelise over the mesh's model dimension "
            'and pass process_group=mesh["data"].get_group()'
        )
