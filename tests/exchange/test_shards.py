"""States of a grid of workers: shards to whole parameters, other data ranks, other shards."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thinwire import reshard
from thinwire.exchange import counts_of, with_counts
from thinwire.exchange.shards import join_shards, shard_of, take_shard
from thinwire.quantize import to_wire

States = list[dict[str, Any]]
PER_VALUE = ("owner_residual", "momentum")


def cut(tensor: Tensor, dim: int | None, ways: int) -> list[Tensor]:
    """As torch's Shard(dim) does."""
    if dim is None:
        return [tensor] * ways
    pieces = list(tensor.chunk(ways, dim))
    return pieces + [tensor.narrow(dim, 0, 0)] * (ways - len(pieces))


class Job:
    """Whole parameters, and what the workers of any grid would hold of their state.

    Attributes:
        residuals: by data rank and parameter.
        owned: by kind and parameter, tensors of the parameters' shapes.
    """

    def __init__(self, draw: st.DrawFn, data: int) -> None:
        shape = st.lists(st.integers(1, 7), min_size=1, max_size=3)
        self.shapes = draw(st.lists(shape, min_size=1, max_size=3))
        self.dims = [draw(st.none() | st.integers(0, len(s) - 1)) for s in self.shapes]
        self.axis = draw(st.sampled_from(["output", "input"]))
        self.seed = draw(st.integers(0, 10**6))
        self.generator = torch.Generator().manual_seed(self.seed)
        self.residuals = [[self.noise(s) for s in self.shapes] for _ in range(data)]
        self.owned = {kind: [self.noise(s) for s in self.shapes] for kind in PER_VALUE}

    def noise(self, shape: list[int]) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def states(self, residuals: list[list[Tensor]], ways: int, ledgers: list[Any]) -> States:
        """Every worker's, owner state cut at random within each column."""
        data, found = len(residuals), []
        runs = {}
        for model in range(ways):
            for i, (shape, dim) in enumerate(zip(self.shapes, self.dims, strict=True)):
                values = cut(torch.zeros(shape), dim, ways)[model].numel()
                cuts = torch.randint(0, values + 1, (data - 1,), generator=self.generator)
                runs[model, i] = list(pairwise([0, *sorted(cuts.tolist()), values]))
        for rank, residual in enumerate(residuals):
            for model in range(ways):
                state: dict[str, Any] = {}
                for i, dim in enumerate(self.dims):
                    entry: dict[str, Any] = {"residual": cut(residual[i], dim, ways)[model]}
                    first, last = runs[model, i][rank]
                    if first < last:
                        entry["owned"] = (first, last)
                        for kind in PER_VALUE:
                            shard = cut(self.owned[kind][i], dim, ways)[model]
                            entry[kind] = to_wire(shard, self.axis)[first:last]
                    state[i] = entry
                counts = {"rank": rank, "world": data, "axis": self.axis, "phase": "steady"}
                if ways > 1:
                    counts |= {"model_rank": model, "model_world": ways, "sharded": self.dims}
                counts["ledger"] = {"updates": ledgers[len(found)]}
                groups = [{"params": list(range(len(self.shapes)))}]
                form = {"state": state, "param_groups": groups}
                found.append(with_counts(form, counts))
        return found


GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=60)
@given(st.data(), GRIDS, GRIDS)
def test_any_grid_goes_on_as_any_other(
    data: st.DataObject, old: tuple[int, int], new: tuple[int, int]
) -> None:
    """Residuals keep their sum for every value of the whole parameters; owner state is exact."""
    job = Job(data.draw, old[0])
    traffic = [{"collectives": 3, "messages": k, "bytes": 7 * k} for k in range(old[0] * old[1])]
    states = job.states(job.residuals, old[1], traffic)
    grid = [(rank, model) for rank in range(new[0]) for model in range(new[1])]
    found = {at: reshard(states, at[0], new[0], at[1], new[1]) for at in grid}
    if new == old:
        assert all(found[at] == state for at, state in zip(grid, states, strict=True))
        return
    for i, dim in enumerate(job.dims):
        # Every row holds whole parameters; each model rank takes its own when it loads.
        parts = {at: take_shard(found[at]["state"][i], dim, job.axis, at[1], new[1]) for at in grid}
        total = sum(residual[i].double() for residual in job.residuals)
        rows = [
            [parts[rank, model]["residual"] for model in range(new[1])] for rank in range(new[0])
        ]
        whole = [torch.cat(row, dim) if dim is not None else row[0] for row in rows]
        again = torch.stack([row.double() for row in whole]).sum(0)
        torch.testing.assert_close(again, total, rtol=1e-6, atol=1e-6)
        if old[0] <= new[0]:
            assert torch.equal(
                torch.stack(whole)[: old[0]], torch.stack([r[i] for r in job.residuals])
            )
        for at, part in parts.items():
            for kind in PER_VALUE:
                shard = cut(job.owned[kind][i], dim, new[1])[at[1]]
                assert torch.equal(part[kind], to_wire(shard, job.axis))
            assert part["owned"] == (0, part["residual"].numel())
    for column in ("messages", "bytes"):
        shares = [counts_of(state)["ledger"]["updates"][column] for state in found.values()]
        assert sum(shares) == sum(t[column] for t in traffic)


@settings(max_examples=30)
@given(st.data(), GRIDS, GRIDS)
def test_there_and_back_again(
    data: st.DataObject, old: tuple[int, int], new: tuple[int, int]
) -> None:
    """With as many data ranks the way does not matter: the shards' values come back exactly."""
    job = Job(data.draw, old[0])
    nothing = [{"collectives": 0, "messages": 0, "bytes": 0}] * 16
    states = job.states(job.residuals, old[1], nothing)
    middle = [reshard(states, rank, old[0], 0, new[1]) for rank in range(old[0])]
    between = [[state["state"][i]["residual"] for i in range(len(job.dims))] for state in middle]
    if new[1] == old[1]:
        return
    back = job.states(between, new[1], nothing)
    for rank in range(old[0]):
        entries = reshard(back, rank, old[0], 0, old[1])["state"]
        for i in entries:
            assert torch.equal(entries[i]["residual"], job.residuals[rank][i])


@given(st.data(), st.integers(1, 5))
def test_taking_and_joining_are_inverses(data: st.DataObject, ways: int) -> None:
    job = Job(data.draw, 1)
    for i, dim in enumerate(job.dims):
        entry = {"residual": job.residuals[0][i], "owned": (0, job.residuals[0][i].numel())}
        entry |= {kind: to_wire(job.owned[kind][i], job.axis) for kind in PER_VALUE}
        shards = [take_shard(entry, dim, job.axis, rank, ways) for rank in range(ways)]
        again = join_shards(shards, dim, job.axis)
        assert again.keys() == entry.keys()
        for kind in entry.keys() - {"owned"}:
            assert torch.equal(again[kind], entry[kind])
        for rank, shard in enumerate(shards):
            assert torch.equal(shard["residual"], shard_of(entry["residual"], dim, rank, ways))


def test_states_of_another_grid_are_named() -> None:
    def state(rank: int, model: int) -> dict[str, Any]:
        counts = {"rank": rank, "world": 2, "model_rank": model, "model_world": 2, "ledger": {}}
        form = {"state": {}, "param_groups": [{"params": []}]}
        return with_counts(form, {**counts, "axis": "output", "sharded": []})

    states = [state(rank, model) for rank in range(2) for model in range(2)]
    assert counts_of(reshard(states, 0, 1))["world"] == 1
    with pytest.raises(ValueError, match=r"states\[1\]: expected worker 1 of 4, got worker 2 of 4"):
        reshard([states[0], states[2], states[1], states[3]], 0, 1)
    with pytest.raises(ValueError, match=r"states\[0\]: expected worker 0 of 2, got worker 0 of 4"):
        reshard(states[:2], 0, 1)
    with pytest.raises(ValueError, match="model_rank: expected 0 <= rank < 2, got 2"):
        reshard(states, 0, 1, 2, 2)
