"""Another number of workers: properties of states made up, of optimisers and of the hook."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from thinwire import reshard
from thinwire.exchange import counts_of, with_counts

States = list[dict[str, Any]]


@st.composite
def jobs(draw: st.DrawFn) -> States:
    """States of all workers of some job."""
    world = draw(st.integers(1, 6))
    hook = draw(st.booleans())
    serial = not hook and draw(st.booleans())
    shapes = draw(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=4))
    local = not hook and draw(st.booleans())
    kinds = set() if hook else draw(st.sets(st.sampled_from(["momentum", "adagrad"])))
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
        form = {"state": {}} if hook else {"state": {}, "param_groups": [{"lr": 0.1}, {}]}
        states.append(with_counts(form, counts))
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
    ledgers = [counts_of(state)["ledger"]["updates"] for state in after]
    before = [counts_of(state)["ledger"]["updates"] for state in states]
    for column in ("messages", "bytes"):
        assert sum(ledger[column] for ledger in ledgers) == sum(b[column] for b in before)
    assert {ledger["collectives"] for ledger in ledgers} == {7}
    assert [counts_of(state)["rank"] for state in after] == list(range(world))


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
        with_counts(
            {"state": {0: {"residual": torch.zeros(5)}}},
            {**counts, "rank": rank, "world": world, "ledger": {}},
        )
        for rank in range(world)
    ]


def test_states_that_do_not_belong_together_are_named() -> None:
    states = _states(2)
    with pytest.raises(ValueError, match=r"states\[0\]: expected worker 0 of 2, got worker 1 of 2"):
        reshard(states[::-1], 0, 1)
    with pytest.raises(ValueError, match=r"expected worker 0 of 1, got worker 0 of 2"):
        reshard(states[:1], 0, 1)
    states[1] = with_counts(states[1], {**counts_of(states[1]), "samples_seen": 2.0})
    with pytest.raises(ValueError, match="take all states after the same step"):
        reshard(states, 0, 1)
    with pytest.raises(ValueError, match="none"):
        reshard([], 0, 1)
    with pytest.raises(ValueError, match="not made by thinwire"):
        reshard([{"state": {}}], 0, 1)
    states = _states(2)
    for first, state in zip((0, 3), states, strict=True):
        state["state"][0] |= {"owned": (first, first + 2), "momentum": torch.zeros(2)}
    with pytest.raises(ValueError, match="nobody's covers value 2 of 5"):
        reshard(states, 0, 1)
