"""Optimisers that end: closed, followed by another over the same parameters, or just dropped."""

import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.optim.oracle import MANY_BUCKETS, ONE_BIT, batch, perceptron, values, wait_until_gone
from thinwire import OneBitSGD, OwnerOptimizer, simulate

FRONTS = ("OneBitSGD", "OwnerOptimizer")


def steps(optimizer: Any, model: nn.Module, numbers: range, rank: int = 0, world: int = 1) -> None:
    for step in numbers:
        optimizer.zero_grad()
        model(batch(optimizer, step, rank, world)).square().mean().backward()
        optimizer.step()


def hooks_of(model: nn.Module) -> int:
    return sum(len(p._post_accumulate_grad_hooks or {}) for p in model.parameters())


def two_phases(rank: int, world: int, way: str, between: str) -> tuple[Tensor, int]:
    """Three steps by one optimiser and three by another, as in fine-tuning or a notebook."""
    model = perceptron(0, 20, 30, 4)
    first = ONE_BIT[way](model)
    steps(first, model, range(3), rank, world)
    if between == "backward":  # sent, and neither applied nor discarded
        model(batch(first, 9, rank, world)).square().mean().backward()
    if between == "close":
        first.close()
    if between == "del":
        del first
    options = {"lr": 0.05, **MANY_BUCKETS}
    if between == "after":
        second = OneBitSGD(model.named_parameters(), **options, after=first)
    else:
        second = OneBitSGD(model.named_parameters(), **options)
    steps(second, model, range(3, 6), rank, world)
    second.close()
    return values([model]), hooks_of(model)


@pytest.mark.support("a second optimiser over the same parameters", *FRONTS)
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("way", ONE_BIT)
@pytest.mark.parametrize("between", ["nothing", "backward", "close", "del", "after"])
def test_a_second_optimiser_takes_over(way: str, between: str, world: int) -> None:
    model = perceptron(0, 20, 30, 4)
    steps(torch.optim.SGD(model.parameters(), lr=0.1), model, range(3))
    steps(torch.optim.SGD(model.parameters(), lr=0.05), model, range(3, 6))
    expected = values([model])
    for found, hooks in simulate(world, two_phases, way, between):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert hooks == 0


@pytest.mark.parametrize("after", [False, True])
def test_the_former_owner_of_parameters_says_who_has_them(after: bool) -> None:
    model = perceptron(0, 20, 30, 4)
    first = OneBitSGD(model.named_parameters())
    second = OneBitSGD(model.named_parameters(), after=first if after else None)
    said = r"take over from it \(after=\)" if after else "taken over .*, such as '2.bias'"
    with pytest.raises(RuntimeError, match=f"OneBitSGD: another optimiser .*{said}"):
        first.step()
    first.close()
    steps(second, model, range(2))


def test_a_part_of_the_parameters_is_enough_to_lose_them() -> None:
    model = perceptron(0, 20, 30, 4)
    first = OneBitSGD(model.named_parameters())
    second = OneBitSGD(model[2].named_parameters())
    with pytest.raises(RuntimeError, match="such as 'bias'"):
        first.step()
    assert hooks_of(model) == 2
    second.close()
    assert hooks_of(model) == 0


def test_a_refused_successor_leaves_the_former_at_work() -> None:
    model = perceptron(0, 20, 30, 4)
    first = OneBitSGD(model.named_parameters())
    with pytest.raises(ValueError, match="lr: expected"):
        OneBitSGD(model.named_parameters(), lr=-1.0, after=first)
    with pytest.raises(ValueError, match="lr: expected"):
        OneBitSGD(model.named_parameters(), lr=-1.0)
    steps(first, model, range(2))


@pytest.mark.support("step() of a closed optimiser", *FRONTS, refused=True)
@pytest.mark.parametrize("make", [OneBitSGD, OwnerOptimizer], ids=FRONTS)
def test_a_closed_optimiser_says_so_wherever_it_is_used(make: Any) -> None:
    model = perceptron(0, 20, 30, 4)
    args = (torch.optim.SGD,) if make is OwnerOptimizer else ()
    optimizer = make(*args, model.named_parameters(), lr=0.1)
    steps(optimizer, model, range(1))
    state = optimizer.state_dict()
    optimizer.close()
    optimizer.close()
    assert hooks_of(model) == 0
    optimizer.zero_grad()
    optimizer.discard()
    model(batch(optimizer, 0, 0, 1)).square().mean().backward()
    for use in (
        optimizer.step,
        optimizer.flush,
        lambda: optimizer.load_state_dict(state),
        lambda: optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]}),
        lambda: make(*args, model.named_parameters(), lr=0.1, after=optimizer),
    ):
        with pytest.raises(RuntimeError, match=r"Optimizer|OneBitSGD: .*closed: make a new one"):
            use()
    optimizer.state_dict()  # for a last checkpoint


@pytest.mark.support("`with` around an optimiser", *FRONTS)
def test_a_context_ends_hooks_and_thread() -> None:
    model = perceptron(0, 20, 30, 4)
    with OneBitSGD(model.named_parameters()) as optimizer:
        steps(optimizer, model, range(2))
        thread = optimizer._engine.thread._thread
        assert thread is not None
        assert thread.is_alive()
    assert (thread.is_alive(), hooks_of(model)) == (False, 0)


def test_an_error_in_a_context_does_not_wait_for_others() -> None:
    model = perceptron(0, 20, 30, 4)
    gate = threading.Event()

    def fail() -> None:
        with OneBitSGD(model.named_parameters()) as optimizer:
            optimizer._engine.thread.submit(lambda: gate.wait(100))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    gate.set()


@pytest.mark.support("an optimiser that is dropped without close()", *FRONTS)
@pytest.mark.parametrize("way", ONE_BIT)
def test_a_dropped_optimiser_can_be_collected(way: str) -> None:
    model = perceptron(0, 20, 30, 30, 4)
    optimizer = ONE_BIT[way](model)
    steps(optimizer, model, range(3))
    model(batch(optimizer, 9, 0, 1)).square().mean().backward()
    thread = optimizer._engine.thread._thread
    assert thread is not None
    alive = weakref.ref(optimizer)
    del optimizer
    wait_until_gone(alive)
    thread.join(20)
    assert not thread.is_alive()
    assert hooks_of(model) == 0
