"""States of the hook that end, and backwards that no step follows."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.conftest import RunRanks
from tests.optim.oracle import batch, perceptron, values, wait_until_gone
from thinwire import OneBitState, onebit_hook


def wrap(model: Any, **options: Any) -> tuple[Any, OneBitState]:
    state = OneBitState(**options)
    ddp = DistributedDataParallel(model, bucket_cap_mb=0.001)
    ddp.register_comm_hook(state, onebit_hook)
    return ddp, state


def steps(ddp: Any, model: Any, numbers: range, rank: int, world: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in numbers:
        optimizer.zero_grad()
        ddp(batch(optimizer, step, rank, world)).square().mean().backward()
        optimizer.step()


def several_lives(rank: int, world: int, between: str) -> dict[str, Any]:
    """The same parameters under one DDP after another, each with a state of its own."""
    model = perceptron(0, 20, 30, 4)
    first, state = wrap(model, code="float32")
    steps(first, model, range(3), rank, world)
    alive, thread = weakref.ref(state), state._thread._thread
    assert thread is not None
    if between == "close":
        state.close()
        state.close()
    if between == "del":
        del first, state
        wait_until_gone(alive)
        thread.join(20)
    with OneBitState(code="float32") as second:
        ddp = DistributedDataParallel(model, bucket_cap_mb=0.001)
        ddp.register_comm_hook(second, onebit_hook)
        steps(ddp, model, range(3, 6), rank, world)
    ended = second._thread._thread is not None and not second._thread._thread.is_alive()
    return {"values": values([model]), "first ended": not thread.is_alive(), "second ended": ended}


@pytest.mark.support("a second state on a new DDP of the same parameters", "DDP hook")
@pytest.mark.parametrize("between", ["nothing", "close", "del"])
def test_a_second_state_takes_over(run_ranks: RunRanks, between: str) -> None:
    model = perceptron(0, 20, 30, 4)
    steps(model, model, range(6), 0, 1)
    for found in run_ranks(2, several_lives, between):
        torch.testing.assert_close(found["values"], values([model]), rtol=1e-5, atol=1e-6)
        assert found["first ended"] == (between != "nothing")
        assert found["second ended"]


def refused(rank: int, world: int, options: dict[str, Any], close: bool) -> str:
    model = perceptron(0, 20, 30, 4)
    ddp, state = wrap(model, **options)
    if close:
        state.close()
    loss = ddp(batch(None, 0, rank, world)).square().mean()
    try:
        loss.backward()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return "no error"


@pytest.mark.support("a backward after close()", "DDP hook", refused=True)
def test_a_closed_state_says_so(run_ranks: RunRanks) -> None:
    for message in run_ranks(2, refused, {}, True):
        assert "this OneBitState is closed: wrap the model in a new" in message


@pytest.mark.support("batch_size= or start_samples= without `samples`", "DDP hook", refused=True)
def test_a_start_in_samples_needs_samples(run_ranks: RunRanks) -> None:
    for message in run_ranks(2, refused, {"start_samples": 64}, False):
        assert "since start_samples=64 counts samples: write state.samples = len(inputs)" in message
    assert run_ranks(2, refused, {"start_steps": 2}, False) == ["no error"] * 2


def unapplied(rank: int, world: int) -> Tensor:
    """Every other batch is thrown away after its backward, by all workers."""
    model = perceptron(0, 20, 30, 4)
    ddp, _ = wrap(model, code="float32")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(6):
        optimizer.zero_grad()
        ddp(batch(optimizer, step, rank, world)).square().mean().backward()
        if step % 2:
            optimizer.step()
    return values([model])


@pytest.mark.support("a batch whose gradients all workers throw away", "DDP hook")
def test_unapplied_gradients_leave_no_trace(run_ranks: RunRanks) -> None:
    model = perceptron(0, 20, 30, 4)
    for step in range(1, 6, 2):
        steps(model, model, range(step, step + 1), 0, 1)
    for found in run_ranks(2, unapplied):
        torch.testing.assert_close(found, values([model]), rtol=1e-5, atol=1e-6)
