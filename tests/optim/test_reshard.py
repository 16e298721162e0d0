"""Optimisers that go on with another number of workers, over real ranks."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from tests.conftest import RunRanks
from tests.optim.problems import flat, network, serial, train_step
from tests.optim.whole_tensors import muon_and_adamw
from thinwire import OneBitSGD, OwnerOptimizer, reshard, saved_states
from thinwire.exchange import counts_of, with_counts

SMALL_BUCKETS = {"bucket_mb": 0.005}
States = list[dict[str, Any]]


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
        for kind in sorted(tiles[0].keys() - {"owned", "residual", "local_adagrad", "pending"}):
            owners.append(torch.cat([tile[kind] for tile in tiles]))
    return workers, owners


@pytest.mark.parametrize(
    ("worlds", "options"),
    [
        ((4, 2, 3), {"axis": "input", "adagrad": "aggregate", "lr": 0.02}),
        ((3, 1, 4), {"adagrad": "local", "lr": 0.02}),
        ((2, 4, 1), {**serial(480)}),
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
            in_serial_start = counts_of(end)["phase"] == "serial"
            assert in_serial_start or torch.equal(parameters, results[0][0])
        if saved is not None:
            before, after = carried(saved[1]), carried([start for _, start, _, _ in results])
            for one, other in zip(before[0], after[0], strict=True):
                torch.testing.assert_close(one, other, rtol=2**-23, atol=2**-20)
            for one, other in zip(before[1], after[1], strict=True):
                assert torch.equal(one, other)
        saved = results[0][3], [end for _, _, end, _ in results]


def make(kind: str, seed: int) -> Any:
    model = network(seed)
    if kind == "Muon and AdamW":
        return model, muon_and_adamw(model, **SMALL_BUCKETS)
    if kind != "OwnerOptimizer":
        options = {
            "lr": 0.05,
            "momentum": 0.5,
            "adagrad": "aggregate",
            "start": "serial",
            "start_samples": 100,
        }
        options["double_buffer"] = kind == "double-buffered"
        return model, OneBitSGD(model.named_parameters(), **options, **SMALL_BUCKETS)
    return model, OwnerOptimizer(torch.optim.AdamW, model.parameters(), lr=0.01, **SMALL_BUCKETS)


def save(rank: int, world: int, kind: str, named: bool, folder: str) -> list[Tensor]:
    """Four steps, a checkpoint, four more."""
    model, optimizer = make(kind, 0)
    for step in range(8):
        if step == 4:
            before = flat(model), copy.deepcopy(optimizer.state_dict())
            state = get_optimizer_state_dict(model, optimizer) if named else optimizer.state_dict()
            saved = {"model": model.state_dict(), f"worker{rank}": state}
            dcp.save(saved, checkpoint_id=folder)
            assert not named or sorted(state["state"]) == sorted(dict(model.named_parameters()))
            assert torch.equal(before[0], flat(model)), "torch took no step to look at the state"
            assert_same(before[1], optimizer.state_dict())
        train_step(model, optimizer, step, rank, world)
    return [flat(model)]


def load(rank: int, world: int, kind: str, named: bool, folder: str) -> Any:
    model, optimizer = make(kind, 1)
    saved = {"model": model.state_dict()}
    dcp.load(saved, checkpoint_id=folder)
    model.load_state_dict(saved["model"])
    states = saved_states(folder)
    own = reshard(states, rank, world)
    if named:
        set_optimizer_state_dict(model, optimizer, own)
    else:
        optimizer.load_state_dict(own)
    start = copy.deepcopy(optimizer.state_dict())
    for step in range(4, 8):
        train_step(model, optimizer, step, rank, world)
    return flat(model), start, [numbered(state) for state in states]


def numbered(state: Any) -> dict[str, Any]:
    """What was read, as plain dicts; keys are positions, whether they were names or numbers."""
    keys = [str(key) for group in state["param_groups"] for key in group["params"]]
    entries = {i: dict(state["state"][key]) for i, key in enumerate(keys)}
    return {"state": entries, "param_groups": [dict(g) for g in state["param_groups"]]}


def assert_same(one: Any, other: Any) -> None:
    assert counts_of(one) == counts_of(other)
    for i, entry in one["state"].items():
        assert entry.keys() == other["state"][i].keys()
        for kind in entry.keys() - {"owned"}:
            assert torch.equal(entry[kind], other["state"][i][kind])


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("OneBitSGD", False),
        pytest.param("OneBitSGD", True, marks=pytest.mark.slow),
        ("OwnerOptimizer", True),
        ("Muon and AdamW", True),
        pytest.param("double-buffered", True, marks=pytest.mark.slow),
    ],
)
def test_distributed_checkpoint(
    run_ranks: RunRanks, tmp_path: Path, kind: str, named: bool
) -> None:
    """Saved by two, by number or by name: two go on to the same bits, three with all of it."""
    folder = str(tmp_path / "dcp")
    straight = run_ranks(2, save, kind, named, folder)[0][0]
    for world in (2, 3):
        results = run_ranks(world, load, kind, named, folder)
        assert all(torch.equal(result[0], results[0][0]) for result in results)
        assert torch.equal(results[0][0], straight) == (world == 2)
        before, after = carried(results[0][2]), carried([start for _, start, _ in results])
        for one, other in zip(before[0], after[0], strict=True):
            torch.testing.assert_close(one, other, rtol=2**-23, atol=2**-20)
        for one, other in zip(before[1], after[1], strict=True):
            assert torch.equal(one, other)


def into_a_template(rank: int, world: int, kind: str, folder: str) -> list[Tensor]:
    """An optimiser has all its tensors from the start, so as many workers can load in place."""
    model, optimizer = make(kind, 0)
    for step in range(4):
        train_step(model, optimizer, step, rank, world)
    dcp.save(
        {"model": model.state_dict(), f"worker{rank}": optimizer.state_dict()}, checkpoint_id=folder
    )
    other, resumed = make(kind, 1)
    saved = {"model": other.state_dict(), f"worker{rank}": resumed.state_dict()}
    dcp.load(saved, checkpoint_id=folder)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved[f"worker{rank}"])
    assert_same(resumed.state_dict(), optimizer.state_dict())
    for step in range(4, 8):
        train_step(model, optimizer, step, rank, world)
        train_step(other, resumed, step, rank, world)
    return [flat(model), flat(other)]


@pytest.mark.parametrize("kind", ["OwnerOptimizer", "Muon and AdamW"])
def test_distributed_checkpoint_loads_in_place(
    run_ranks: RunRanks, tmp_path: Path, kind: str
) -> None:
    for straight, resumed in run_ranks(2, into_a_template, kind, str(tmp_path / "dcp")):
        assert torch.equal(straight, resumed)


@pytest.mark.parametrize("bucket_mb", [0.001, 1.0])
def test_buckets_may_be_cut_in_another_way(bucket_mb: float) -> None:
    """One worker, two param groups: the same bits however the parameters travel together."""

    def make(megabytes: float) -> tuple[Any, OwnerOptimizer]:
        model = network()
        last = [*model[4].parameters()]
        groups = [{"params": [*model[:4].parameters()]}, {"params": last, "lr": 0.02}]
        options = {"lr": 0.01, "code": "float32", "bucket_mb": megabytes}
        return model, OwnerOptimizer(torch.optim.AdamW, groups, **options)

    model, optimizer = make(0.005)
    other, resumed = make(bucket_mb)
    for step in range(6):
        if step == 3:
            other.load_state_dict(model.state_dict())
            resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            assert resumed.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()
        train_step(model, optimizer, step, 0, 1)
        if step >= 3:
            train_step(other, resumed, step, 0, 1)
    assert torch.equal(flat(model), flat(other))


def test_a_state_of_a_former_version_is_refused() -> None:
    """It counts steps by bucket and not by parameter."""
    model, optimizer = make("OneBitSGD", 0)
    train_step(model, optimizer, 0, 0, 1)
    state = copy.deepcopy(optimizer.state_dict())
    counts = counts_of(state)
    del counts["kept"]
    with pytest.raises(ValueError, match="a former version"):
        optimizer.load_state_dict(with_counts(state, counts))
