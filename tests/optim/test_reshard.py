"""Another number of workers: pure properties, then real ranks."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import RunRanks
from tests.optim.problems import flat, network, train_step
from thinwire import OneBitSGD, reshard

SMALL_BUCKETS = {"bucket_mb": 0.005}
States = list[dict[str, Any]]


@st.composite
def jobs(draw: st.DrawFn) -> States:
    """States of all workers of some job."""
    world = draw(st.integers(1, 6))
    serial = draw(st.booleans())
    shapes = draw(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=4))
    local = draw(st.booleans())
    kinds = draw(st.sets(st.sampled_from(["momentum", "adagrad"])))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 10 ** (3 * torch.rand(1).item())

    states: States = []
    for rank in range(world):
        counts = {
            "rank": rank,
            "world": world,
            "axis": "output",
            "samples_seen": 9.0,
            "phase": "serial" if serial else "steady",
            "skips_in_a_row": 0,
            "sequences": [4],
            "ledger": {"updates": {"collectives": 7, "messages": rank + 2, "bytes": 31 * rank}},
        }
        states.append({"state": {}, "param_groups": [], "thinwire": counts})
    for i, shape in enumerate(shapes):
        values = torch.Size(shape).numel()
        cuts = sorted(
            draw(st.lists(st.integers(0, values), min_size=world - 1, max_size=world - 1))
        )
        runs = [(0, values)] if serial else list(pairwise([0, *cuts, values]))
        for rank, state in enumerate(states):
            entry: dict[str, Any] = {"residual": noise(*shape)}
            if local:
                entry["local_adagrad"] = noise(*shape).square()
            if rank < len(runs) and runs[rank][0] < runs[rank][1]:
                first, last = entry["owned"] = runs[rank]
                for kind in kinds if serial else kinds | {"owner_residual"}:
                    entry[kind] = noise(last - first)
            state["state"][i] = entry
    return states


def all_of(states: States, world: int) -> States:
    return [reshard(states, rank, world) for rank in range(world)]


@settings(max_examples=60)
@given(jobs(), st.integers(1, 6))
def test_the_carried_error_keeps_its_total(states: States, world: int) -> None:
    """In float64: half a unit in the last place where rows meet, nothing elsewhere."""
    after = all_of(states, world)
    for i in states[0]["state"]:
        before_sum = sum(state["state"][i]["residual"].double() for state in states)
        after_sum = sum(state["state"][i]["residual"].double() for state in after)
        bound = torch.zeros_like(before_sum)
        for rank in range(world):
            if len(range(rank, len(states), world)) > 1:
                # numpy's spacing: a unit in the last place
                row = after[rank]["state"][i]["residual"]
                unit = torch.nextafter(row.abs(), torch.tensor(torch.inf)) - row.abs()
                bound += 0.5001 * unit.double()
        # What is left is the rounding of the float64 sums of this test.
        slack = 1e-14 * sum(state["state"][i]["residual"].double().abs() for state in states)
        assert bool(((before_sum - after_sum).abs() <= bound + slack).all())


@settings(max_examples=60)
@given(jobs(), st.integers(1, 6))
def test_owner_state_is_the_same_values(states: States, world: int) -> None:
    assume(world != len(states))
    for i in states[0]["state"]:
        tiles = [state["state"][i] for state in states if "owned" in state["state"][i]]
        for state in all_of(states, world):
            entry = state["state"][i]
            assert ("owned" in entry) == bool(tiles)
            for tile in tiles:
                assert entry.keys() == tile.keys()
                first, last = tile["owned"]
                for kind in tile.keys() - {"owned", "residual", "local_adagrad"}:
                    assert torch.equal(entry[kind][first:last], tile[kind])


@settings(max_examples=30)
@given(jobs())
def test_as_many_workers_get_their_own_state_back(states: States) -> None:
    for state, own in zip(all_of(states, len(states)), states, strict=True):
        assert state == own


@settings(max_examples=30)
@given(jobs(), st.integers(1, 6), st.integers(1, 6))
def test_traffic_keeps_its_totals_and_a_second_change_works(
    states: States, middle: int, world: int
) -> None:
    after = all_of(all_of(states, middle), world)
    ledgers = [state["thinwire"]["ledger"]["updates"] for state in after]
    before = [state["thinwire"]["ledger"]["updates"] for state in states]
    for column in ("messages", "bytes"):
        assert sum(ledger[column] for ledger in ledgers) == sum(b[column] for b in before)
    assert {ledger["collectives"] for ledger in ledgers} == {7}
    assert [state["thinwire"]["rank"] for state in after] == list(range(world))


def test_a_new_worker_gets_every_wth_row_and_the_mean_of_local_adagrad() -> None:
    states = _states(4)
    for rank, state in enumerate(states):
        state["state"][0]["residual"].fill_(10.0**rank)
        state["state"][0]["local_adagrad"] = torch.full((5,), float(rank))
    two = all_of(states, 2)
    assert [state["state"][0]["residual"][0].item() for state in two] == [101.0, 1010.0]
    assert [state["state"][0]["local_adagrad"][0].item() for state in two] == [1.5, 1.5]
    five = all_of(states, 5)
    assert [state["state"][0]["residual"][0].item() for state in five] == [1, 10, 100, 1000, 0]


def _states(world: int) -> States:
    counts = {"axis": "output", "phase": "steady", "samples_seen": 1.0, "sequences": [1]}
    return [
        {
            "state": {0: {"residual": torch.zeros(5)}},
            "param_groups": [],
            "thinwire": {**counts, "rank": rank, "world": world, "ledger": {}},
        }
        for rank in range(world)
    ]


def test_states_that_do_not_belong_together_are_named() -> None:
    states = _states(2)
    with pytest.raises(ValueError, match=r"states\[0\]: expected worker 0 of 2, got worker 1 of 2"):
        reshard(states[::-1], 0, 1)
    with pytest.raises(ValueError, match=r"expected worker 0 of 1, got worker 0 of 2"):
        reshard(states[:1], 0, 1)
    states[1]["thinwire"]["samples_seen"] = 2.0
    with pytest.raises(ValueError, match="take all states after the same step"):
        reshard(states, 0, 1)
    with pytest.raises(ValueError, match="none"):
        reshard([], 0, 1)
    states = _states(2)
    for first, state in zip((0, 3), states, strict=True):
        state["state"][0] |= {"owned": (first, first + 2), "momentum": torch.zeros(2)}
    with pytest.raises(ValueError, match="nobody's covers value 2 of 5"):
        reshard(states, 0, 1)


# --- over real ranks ------------------------------------------------------------------------------


def run_on(
    rank: int, world: int, options: dict[str, Any], steps: range, saved: Any
) -> tuple[Tensor, dict[str, Any], dict[str, Any], Any]:
    """Some steps of a run, from nothing or from all old workers' states."""
    model = network()
    optimizer = OneBitSGD(model.named_parameters(), **options)
    if saved is not None:
        weights, states = saved
        model.load_state_dict(weights)
        optimizer.load_state_dict(reshard(states, rank, world))
    start = copy.deepcopy(optimizer.state_dict())
    for step in steps:
        train_step(model, optimizer, step, rank, world)
    return flat(model), start, copy.deepcopy(optimizer.state_dict()), model.state_dict()


def carried(states: States) -> tuple[list[Tensor], list[Tensor]]:
    """All workers' residuals added up, and the owners' end to end; float64, by parameter."""
    workers = [
        sum(state["state"][i]["residual"].double() for state in states) for i in states[0]["state"]
    ]
    owners = []
    for i in states[0]["state"]:
        tiles = [state["state"][i] for state in states if "owned" in state["state"][i]]
        tiles.sort(key=lambda tile: tile["owned"])
        assert [a["owned"][1] for a in tiles[:-1]] == [b["owned"][0] for b in tiles[1:]]
        for kind in sorted(tiles[0].keys() - {"owned", "residual", "local_adagrad"}):
            owners.append(torch.cat([tile[kind] for tile in tiles]))
    return workers, owners


@pytest.mark.parametrize(
    ("worlds", "options"),
    [
        ((4, 2, 3), {"axis": "input", "adagrad": "aggregate", "lr": 0.02}),
        ((3, 1, 4), {"adagrad": "local", "lr": 0.02}),
        ((2, 4, 1), {"cold_start": 480}),
    ],
    ids=str,
)
def test_a_run_goes_on_with_other_numbers_of_workers(
    run_ranks: RunRanks, worlds: tuple[int, int, int], options: dict[str, Any]
) -> None:
    """Six steps each; with the cold start the first change is in the middle of it."""
    full = {"lr": 0.05, "momentum": 0.5, **SMALL_BUCKETS, **options}
    saved = None
    for number, world in enumerate(worlds):
        steps = range(6 * number, 6 * number + 6)
        results = run_ranks(world, run_on, full, steps, saved)
        for parameters, _, end, _ in results:
            in_serial_start = end["thinwire"]["phase"] == "serial"
            assert in_serial_start or torch.equal(parameters, results[0][0])
        if saved is not None:
            before, after = carried(saved[1]), carried([start for _, start, _, _ in results])
            for one, other in zip(before[0], after[0], strict=True):
                torch.testing.assert_close(one, other, rtol=2**-23, atol=2**-20)
            for one, other in zip(before[1], after[1], strict=True):
                assert torch.equal(one, other)
        saved = results[0][3], [end for _, _, end, _ in results]


def through_dcp(rank: int, world: int, folder: str) -> list[Tensor]:
    """Uninterrupted, and through torch.distributed.checkpoint, one key for each worker."""
    options = {"lr": 0.05, "momentum": 0.5, "adagrad": "aggregate", **SMALL_BUCKETS}
    model = network()
    optimizer = OneBitSGD(model.named_parameters(), **options)
    for step in range(4):
        train_step(model, optimizer, step, rank, world)
    state = {"model": model.state_dict(), f"worker{rank}": optimizer.state_dict()}
    dcp.save(state, checkpoint_id=folder)
    other = network(seed=1)
    resumed = OneBitSGD(other.named_parameters(), **options)
    state = {"model": other.state_dict(), f"worker{rank}": resumed.state_dict()}
    dcp.load(state, checkpoint_id=folder)
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state[f"worker{rank}"])
    for step in range(4, 8):
        train_step(model, optimizer, step, rank, world)
        train_step(other, resumed, step, rank, world)
    return [flat(model), flat(other)]


def test_state_dicts_go_through_distributed_checkpoint(run_ranks: RunRanks, tmp_path: Path) -> None:
    for straight, resumed in run_ranks(2, through_dcp, str(tmp_path / "dcp")):
        assert torch.equal(straight, resumed)
