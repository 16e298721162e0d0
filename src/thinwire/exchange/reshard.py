"""Another number of workers: the states of W workers become the states of W'.

The same with model parallelism, where W counts the workers that share the samples (data ranks) and
each of them is several model ranks with a shard of every parameter: the states of D x M workers
become those of D' x M'.

Nothing that error feedback still carries is lost:

- Worker residuals are sums over samples, so they add up. New worker k gets the sum of the old
  workers k, k + W', k + 2 W', ...; with more workers than before the new ones begin at zero. Their
  total stays what it was, exactly where no two rows meet in one worker. Where they do, they are
  added in float64 and rounded to the residual's dtype once: half a unit in the last place.
- Owner residual, momentum and AdaGrad sums tile the parameters; the tiles are joined again, and
  each owner takes its new stripe of them. Nothing is computed, so nothing is rounded.
- What an optimiser of whole tensors keeps is its owner's alone, and goes to the new owner as it is.
- Worker-side ("local") AdaGrad: every new worker gets the mean of the old workers' sums.
- Traffic: messages and bytes are divided evenly, their totals over all workers stay what they were.
  The collectives are the job's, each worker took part in all of them, so their number stays.
- Local steps: what a worker has moved in an unfinished round is a sum over samples too, and is
  added to its residual; all begin at the anchor. New worker k takes the inner optimiser of old
  worker k modulo W.
- Everything else is the same on every worker.
- Model ranks: each one's column of the grid is resharded for itself; shards are then laid end to
  end to whole parameters (``exchange.shards``), of which a new model rank takes its own when it
  loads. Nothing is computed. What all model ranks hold alike, model rank 0 gives.

On the same grid as before each worker simply gets its own state back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thinwire.exchange.shards import join_shards
from thinwire.exchange.state import (
    IN_ROUND,
    INNER,
    PER_WORKER,
    REPLICATED,
    State,
    counts_of,
    with_counts,
)

# By position of the parameters; who has no part of an owner's state has none. In a serial start
# worker 0 alone has any, of whole parameters their owner.
_OF_OWNER = ("scalars", "kept")
# Counts that may differ between workers.
_OWN = {"rank", "world", "ledger", "scalars", "kept", "moved_samples"}
_GRID = ("model_rank", "model_world", "sharded")  # counts of workers that hold shards

Entries = dict[Any, Any]


def reshard(
    states: Sequence[State], rank: int, world: int, model_rank: int = 0, model_world: int = 1
) -> dict[str, Any]:
    """The state of one worker of a job that goes on with another number of workers.

    It is a pure function: every new worker calls it on the same states. Tensors are only looked
    up where they are needed, so the states may be mappings that read them from a file.

    Args:
        states: the ``state_dict()`` of every worker of the old job, in rank order: all of
            ``OneBitSGD``, ``OwnerOptimizer``, ``LocalSteps``, ``HessianFree``, ``OneBitState`` or
            ``OneBitReduceScatter``. On a mesh ("data", "model") rank order is the mesh's, model
            ranks next to each other.
        rank: the new worker among those that share the samples.
        world: number of those.
        model_rank: the new worker among those that share a model.
        model_world: number of those.

    Returns:
        What ``load_state_dict`` takes on that worker. Owner state covers whole parameters, of
        which it takes what it owns, and parameters are whole, of which it takes its shard.

    Raises:
        ValueError: the states are not those of all workers of one job at one step.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank: expected 0 <= rank < {world}, got {rank}")
    if not 0 <= model_rank < model_world:
        raise ValueError(f"model_rank: expected 0 <= rank < {model_world}, got {model_rank}")
    all_counts = check_states(states)
    ways, position = _ways(all_counts[0]), rank * model_world + model_rank
    if (world * ways, model_world) == (len(states), ways):
        return dict(states[position])
    serial = all_counts[0].get("phase") == "serial"
    states = [_round_folded(s, counts) for s, counts in zip(states, all_counts, strict=True)]
    columns = [_column(states[shard::ways], rank, world, serial) for shard in range(ways)]
    entries = columns[0] if ways == 1 else _join_columns(columns, states[0], all_counts[0])
    ledger = share_traffic(
        [counts["ledger"] for counts in all_counts], position, world * model_world
    )
    counts = {**all_counts[0], "rank": rank, "world": world, "ledger": ledger}
    for name in set(_OF_OWNER) & counts.keys():
        counts[name] = _first_known([own[name] for own in all_counts])
    if "moved_samples" in counts:
        counts["moved_samples"] = 0.0
    for name in _GRID:
        counts.pop(name, None)
    return with_counts({**states[position % len(states)], "state": entries}, counts)


def add_rows(rows: Sequence[Tensor]) -> Tensor:
    """The sum of rows, rounded once.

    >>> add_rows([torch.tensor([1.0]), torch.tensor([2.0])])
    tensor([3.])
    """
    if len(rows) == 1:
        return rows[0]
    return torch.stack([row.double() for row in rows]).sum(0).to(rows[0].dtype)


def share_traffic(
    ledgers: Sequence[Mapping[str, Mapping[str, int]]], rank: int, world: int
) -> dict[str, dict[str, int]]:
    """One new worker's part of the traffic so far, by stage."""
    stages = sorted({stage for ledger in ledgers for stage in ledger})
    return {
        stage: {
            "collectives": max(ledger.get(stage, {}).get("collectives", 0) for ledger in ledgers),
            **{
                column: divide_evenly(
                    sum(ledger.get(stage, {}).get(column, 0) for ledger in ledgers), rank, world
                )
                for column in ("messages", "bytes")
            },
        }
        for stage in stages
    }


def divide_evenly(total: int, rank: int, world: int) -> int:
    """Worker ``rank``'s part of a whole number; the parts add up to it.

    >>> [divide_evenly(8, k, 3) for k in range(3)]
    [3, 3, 2]
    """
    return total // world + (rank < total % world)


def check_states(states: Sequence[State]) -> list[dict[str, Any]]:
    """Return the counts of all states, which must be one job's after one step.

    Raises:
        ValueError: they are not.
    """
    if not states:
        raise ValueError("states: expected one for each worker, got none")
    all_counts = [counts_of(state) for state in states]
    ways = _ways(all_counts[0])
    for position, counts in enumerate(all_counts):
        found, expected = _place(counts), (position, len(states))
        if found != expected or _ways(counts) != ways:
            raise ValueError(
                f"states[{position}]: expected worker {position} of {len(states)}, got worker "
                f"{found[0]} of {found[1]}: pass the states of all workers in order"
            )
        for name in sorted(counts.keys() - _OWN - {"model_rank"}):
            if counts[name] != all_counts[0][name]:
                raise ValueError(
                    f"states[{position}]: {name} is {counts[name]}, on worker 0 it is "
                    f"{all_counts[0][name]}: take all states after the same step"
                )
    return all_counts


def _ways(counts: Mapping[str, Any]) -> int:
    """Model ranks of the job that these counts are of."""
    return int(counts.get("model_world", 1))


def _place(counts: Mapping[str, Any]) -> tuple[int, int]:
    """(this worker, number of workers) over both axes of the grid."""
    ways = _ways(counts)
    return counts["rank"] * ways + counts.get("model_rank", 0), counts["world"] * ways


def _round_folded(state: State, counts: Mapping[str, Any]) -> State:
    """A state of local steps with what the worker has moved since the last round as residual."""
    samples = counts.get("moved_samples")
    if samples is None:
        return state
    entries = {name: _moved_to_residual(e, samples) for name, e in state["state"].items()}
    return {**state, "state": entries}


def _moved_to_residual(entry: Mapping[str, Any], samples: float) -> dict[str, Any]:
    begun, local, anchor = entry.get("sent"), entry["local"], entry["anchor"]
    begun = anchor.to(local.dtype) if begun is None else begun
    moved = samples * (begun.double() - local.double())
    residual = (entry["residual"].double() + moved).to(entry["residual"].dtype)
    kept = {kind: value for kind, value in entry.items() if kind not in IN_ROUND}
    return {**kept, "residual": residual}


def _column(states: Sequence[State], rank: int, world: int, serial: bool) -> Entries:
    """What new worker ``rank`` carries for the parameters, or shards, of all these states."""
    return {
        name: _entry([state["state"][name] for state in states], rank, world, serial)
        for name in states[0]["state"]
    }


def _join_columns(columns: Sequence[Entries], form: State, counts: Mapping[str, Any]) -> Entries:
    """Every model rank's shards -> whole parameters."""
    keys = [str(key) for group in form["param_groups"] for key in group["params"]]
    dim_of = dict(zip(keys, counts["sharded"], strict=True))
    return {
        name: join_shards([column[name] for column in columns], dim_of[str(name)], counts["axis"])
        for name in columns[0]
    }


def _entry(entries: Sequence[Mapping[str, Any]], rank: int, world: int, serial: bool) -> Any:
    """One parameter's state on the new worker."""
    same = {kind: entries[0][kind] for kind in REPLICATED if kind in entries[0]}
    if "residual" not in entries[0]:
        return same
    rows = [entry["residual"] for entry in entries[rank::world]]
    residual = add_rows(rows) if rows else torch.zeros_like(entries[0]["residual"])
    new: dict[str, Any] = {**same, "residual": residual}
    if "local_adagrad" in entries[0]:
        new["local_adagrad"] = _local_adagrad(entries, rank, world, serial)
    owners = [owner for owner in entries if "owned" in owner]
    if owners:
        values = residual.numel()
        new["owned"] = (0, values)
        for kind in owners[0].keys() - {"owned", *PER_WORKER, *REPLICATED}:
            if kind.startswith(INNER):
                new[kind] = owners[0][kind]
            else:
                new[kind] = _join([(owner["owned"], owner[kind]) for owner in owners], values)
    return new


def _first_known(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """By position the first worker's entry that is not empty, else worker 0's.

    >>> _first_known([[{}, None, {}], [{"step": 3}, None, {}]])
    [{'step': 3}, None, {}]
    """
    return [next(filter(None, found), found[0]) for found in zip(*lists, strict=True)]


def _local_adagrad(
    entries: Sequence[Mapping[str, Any]], rank: int, world: int, serial: bool
) -> Tensor:
    if world == len(entries):
        same: Tensor = entries[rank]["local_adagrad"]
        return same
    if serial:  # worker 0 alone has any yet; the end of the serial start gives them to all
        own: Tensor = entries[0]["local_adagrad"]
        return own if rank == 0 else torch.zeros_like(own)
    rows = [entry["local_adagrad"] for entry in entries]
    return torch.stack([row.double() for row in rows]).mean(0).to(rows[0].dtype)


def _join(tiles: Sequence[tuple[Sequence[int], Tensor]], values: int) -> Tensor:
    """Runs that cover ``0 .. values - 1`` -> the whole."""
    whole = tiles[0][1].new_empty(values)
    covered = 0
    for (start, stop), tile in sorted(tiles, key=lambda item: tuple(item[0])):
        if start > covered:
            break
        whole[start:stop] = tile
        covered = max(covered, stop)
    if covered < values:
        raise ValueError(f"owner state: nobody's covers value {covered} of {values}")
    return whole
