"""The hook's state: other numbers of workers, other buckets, torch.distributed.checkpoint."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import RunRanks
from tests.ddp.test_hook import Conservation, gradients_of, step_of, wrap
from tests.optim.problems import flat, minibatch, network
from thinwire import reshard, saved_states
from thinwire.exchange import counts_of

States = list[dict[str, Any]]


def carried(states: States) -> tuple[Tensor, Tensor]:
    """float64, by parameter and value: all workers' residuals added up, and the owners'."""
    workers, owners = [], []
    for name in sorted(states[0]["state"]):
        entries = [state["state"][name] for state in states]
        workers.append(sum(entry["residual"].double() for entry in entries).reshape(-1))
        owners.append(torch.full_like(workers[-1], torch.nan))
        for entry in entries:
            if "owned" in entry:
                run = owners[-1][slice(*entry["owned"])]
                assert run.isnan().all(), "no value has two owners"
                run.copy_(entry["owner_residual"])
    return torch.cat(workers), torch.cat(owners)


def run_on(rank: int, world: int, options: dict[str, Any], steps: range, saved: Any) -> Any:
    """Some steps of a run, from nothing or from all old workers' states, with its books."""
    model, twin = network(), network()
    if saved is not None:
        model.load_state_dict(saved[0])
    ddp, state = wrap(model, options)
    if saved is not None:
        state.load_state_dict(reshard(saved[1], rank, world))
    start = copy.deepcopy(state.state_dict())
    books = Conservation(model, state)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in steps:
        twin.load_state_dict(model.state_dict())
        twin.zero_grad()
        inputs, targets = minibatch(step)
        F.cross_entropy(twin(inputs[rank::world]), targets[rank::world]).backward()
        step_of(ddp, optimizer, step, rank, world)
        books.after_step(gradients_of(twin), 1, world)
    end = copy.deepcopy(state.state_dict())
    return {
        "parameters": flat(model),
        "model": model.state_dict(),
        "start": start,
        "end": end,
        "computed": books.computed,
        "applied": books.applied,
        "carried": sum(books.carried().values()),
    }


def test_the_carried_error_survives_other_numbers_of_workers(run_ranks: RunRanks) -> None:
    """4 -> 2 -> 3 -> 1 -> 2 workers, four steps each; and nothing is lost over all of them."""
    options = {"axis": "input", "code": ("sign", "4-bit")}
    saved, computed, applied = None, 0, 0
    for number, world in enumerate((4, 2, 3, 1, 2)):
        results = run_ranks(world, run_on, options, range(4 * number, 4 * number + 4), saved)
        assert all(torch.equal(r["parameters"], results[0]["parameters"]) for r in results)
        if saved is not None:
            before, after = carried(saved[1]), carried([r["start"] for r in results])
            # Half a unit in the last place where workers' residuals meet; owners' are moved.
            torch.testing.assert_close(before[0], after[0], rtol=2**-23, atol=2**-24)
            assert torch.equal(before[1], after[1])
            assert before[0].any()
            assert before[1].any()
        computed += sum(r["computed"] for r in results)
        applied += results[0]["applied"]
        total = applied + sum(r["carried"] for r in results)
        torch.testing.assert_close(total, computed, rtol=1e-4, atol=1e-4)
        saved = results[0]["model"], [r["end"] for r in results]
    counts = counts_of(saved[1][0])  # type: ignore[index]
    assert counts["iteration"] == 20
    assert counts["ledger"]["gradients"]["collectives"] >= 16  # one worker sends nothing


def save(rank: int, world: int, folder: str) -> list[Tensor]:
    """Four steps, a checkpoint, four more."""
    model = network()
    ddp, state = wrap(model, {"start_steps": 1})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(8):
        if step == 4:
            saved = {"model": model.state_dict(), f"worker{rank}": state.state_dict()}
            dcp.save(saved, checkpoint_id=folder)
        step_of(ddp, optimizer, step, rank, world)
    return [flat(model)]


def load(rank: int, world: int, folder: str) -> Any:
    """Into a hook that has seen no backward."""
    model = network(seed=1)
    saved = {"model": model.state_dict()}
    dcp.load(saved, checkpoint_id=folder)
    model.load_state_dict(saved["model"])
    ddp, state = wrap(model, {"start_steps": 1})
    states = saved_states(folder)
    state.load_state_dict(reshard(states, rank, world))
    total = carried([state.state_dict()])[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4, 8):
        step_of(ddp, optimizer, step, rank, world)
    return flat(model), total, carried(states)[0]


def test_distributed_checkpoint(run_ranks: RunRanks, tmp_path: Path) -> None:
    """Saved by three workers; three go on to the same bits, others with the same total."""
    folder = str(tmp_path / "dcp")
    straight = run_ranks(3, save, folder)[0][0]
    for world in (3, 1, 4):
        results = run_ranks(world, load, folder)
        assert all(torch.equal(result[0], results[0][0]) for result in results)
        assert torch.equal(results[0][0], straight) == (world == 3)
        after = sum(own for _, own, _ in results)
        assert after.any()
        torch.testing.assert_close(after, results[0][2], rtol=2**-23, atol=2**-24)


def test_a_checkpoint_without_the_key_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="single process"):
        dcp.save({"model": {"w": torch.ones(2)}}, checkpoint_id=tmp_path)
    with pytest.raises(ValueError, match="expected a key hook0, found model"):
        saved_states(tmp_path, "hook")
