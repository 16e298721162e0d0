"""Options are read when they count, and looking at an optimiser changes nothing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.optim.oracle import MANY_BUCKETS, batch, perceptron, values
from thinwire import OneBitSGD, OwnerOptimizer, reshard, simulate
from thinwire.exchange import counts_of

FRONTS = ("OneBitSGD", "OwnerOptimizer")
Make = Callable[[nn.Module], Any]
ELEVEN: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "AdamW": (torch.optim.AdamW, {"lr": 0.01}),
    "SGD": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "damped SGD": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.5}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.1}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.01}),
    "Rprop": (torch.optim.Rprop, {"lr": 0.01}),
    "NAdam": (torch.optim.NAdam, {"lr": 0.01}),
    "Adadelta": (torch.optim.Adadelta, {}),
    "ASGD": (torch.optim.ASGD, {}),
    "Adamax": (torch.optim.Adamax, {}),
    "RAdam": (torch.optim.RAdam, {}),
}


def step(model: nn.Module, optimizer: Any, number: int, rank: int, world: int) -> None:
    optimizer.zero_grad()
    model(batch(optimizer, number, rank, world)).square().mean().backward()
    optimizer.step()


def one_cycle(optimizer: Any, momentum: str) -> torch.optim.lr_scheduler.LRScheduler:
    cycles = momentum in optimizer.param_groups[0] or "betas" in optimizer.param_groups[0]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.05, total_steps=20, cycle_momentum=cycles
    )


CYCLED: dict[str, Make] = {
    "OneBitSGD": lambda m: OneBitSGD(m.named_parameters(), lr=0.01, **MANY_BUCKETS),
    "double-buffered": lambda m: OneBitSGD(
        m.named_parameters(), lr=0.01, **MANY_BUCKETS, double_buffer=True
    ),
    "serial start": lambda m: OneBitSGD(
        m.named_parameters(), lr=0.01, **MANY_BUCKETS, start="serial", start_steps=7
    ),
    "SGD at the owner": lambda m: OwnerOptimizer(
        torch.optim.SGD, m.named_parameters(), lr=0.01, **MANY_BUCKETS
    ),
    "AdamW at the owner": lambda m: OwnerOptimizer(
        torch.optim.AdamW, m.named_parameters(), lr=0.01, **MANY_BUCKETS
    ),
}


@pytest.mark.support("a scheduler that cycles momentum from 0 on", *FRONTS)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("way", CYCLED)
def test_cycled_momentum_is_torchs_and_survives_a_checkpoint(way: str, world: int) -> None:
    def work(rank: int, world: int) -> tuple[Tensor, Tensor]:
        def begin() -> tuple[nn.Module, Any, Any]:
            model = perceptron(0, 20, 30, 4)
            optimizer = CYCLED[way](model)
            return model, optimizer, one_cycle(optimizer, "momentum")

        model, optimizer, scheduler = begin()
        for number in range(5):
            step(model, optimizer, number, rank, world)
            scheduler.step()
        parts = (model, optimizer, scheduler)
        saved = [copy.deepcopy(part.state_dict()) for part in parts]
        resumed = begin()
        for part, state in zip(resumed, saved, strict=True):
            part.load_state_dict(state)
        for m, o, s in (parts, resumed):
            for number in range(5, 11):
                step(m, o, number, rank, world)
                s.step()
            o.flush()
        return values([model]), values([resumed[0]])

    model = perceptron(0, 20, 30, 4)
    torch_class = torch.optim.AdamW if "AdamW" in way else torch.optim.SGD
    optimizer = torch_class(model.parameters(), lr=0.01)
    scheduler = one_cycle(optimizer, "momentum")
    for number in range(11):
        step(model, optimizer, number, 0, 1)
        scheduler.step()
    for whole, resumed in simulate(world, work):
        assert torch.equal(whole, resumed)
        if way != "double-buffered":
            torch.testing.assert_close(whole, values([model]), rtol=1e-4, atol=1e-5)


OPTIONS: list[dict[str, Any]] = [
    {"momentum": 0.9},
    {"adagrad": "aggregate"},
    {"adagrad": "local"},
    {"weight_decay": 0.1, "momentum": 0.5},
    {"adagrad": "smoothed", "momentum": 0.5, "code": "sign"},
]


@pytest.mark.support("a state loaded into an optimiser made with default options", *FRONTS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_state_brings_its_options_along(options: dict[str, Any]) -> None:
    def work(rank: int, world: int) -> tuple[Tensor, Tensor]:
        def make(**options: Any) -> tuple[nn.Module, OneBitSGD]:
            model = perceptron(0, 20, 30, 4)
            return model, OneBitSGD(model.named_parameters(), lr=0.01, **options)

        model, optimizer = make(**options)
        for number in range(5):
            step(model, optimizer, number, rank, world)
        other, resumed = make()
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for number in range(5, 9):
            step(model, optimizer, number, rank, world)
            step(other, resumed, number, rank, world)
        return values([model]), values([other])

    for whole, resumed in simulate(2, work):
        assert torch.equal(whole, resumed)


@pytest.mark.support("another code in param_groups while training", *FRONTS)
@pytest.mark.parametrize("way", ["OneBitSGD", "double-buffered", "AdamW at the owner"])
def test_a_changed_code_travels_from_the_next_step_on(way: str) -> None:
    def work(rank: int, world: int) -> list[int]:
        model = perceptron(0, 20, 30, 4)
        optimizer = CYCLED[way](model)
        sent = []
        for number in range(4):
            optimizer.param_groups[0]["code"] = "float32" if number < 2 else "sign"
            before = optimizer.ledger.total("gradients", "updates").bytes
            step(model, optimizer, number, rank, world)
            optimizer.flush()
            sent.append(optimizer.ledger.total("gradients", "updates").bytes - before)
        optimizer.zero_grad()
        optimizer.param_groups[0]["code"] = "3-bit"
        with pytest.raises(ValueError, match=r"code: expected .*3-bit"):
            step(model, optimizer, 4, rank, world)
        return sent

    for first, second, third, fourth in simulate(2, work):
        assert first == second > 4 * third
        assert third == fourth


@pytest.mark.support("state_dict() before the first step", *FRONTS)
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("name", ELEVEN)
def test_a_look_before_the_first_step_changes_nothing(name: str, world: int) -> None:
    torch_class, options = ELEVEN[name]

    def work(rank: int, world: int) -> tuple[Tensor, Tensor, Tensor]:
        def run(look: Callable[[Any], None]) -> Tensor:
            model = perceptron(0, 20, 30, 4)
            optimizer = OwnerOptimizer(
                torch_class, model.named_parameters(), **options, **MANY_BUCKETS
            )
            look(optimizer)
            for number in range(3):
                step(model, optimizer, number, rank, world)
            return values([model])

        return (
            run(lambda optimizer: None),
            run(lambda optimizer: copy.deepcopy(optimizer.state_dict())),
            run(lambda optimizer: optimizer.load_state_dict(optimizer.state_dict())),
        )

    model = perceptron(0, 20, 30, 4)
    oracle = torch_class(model.parameters(), **options)
    for number in range(3):
        step(model, oracle, number, 0, 1)
    for plain, looked_at, loaded in simulate(world, work):
        assert torch.equal(plain, looked_at)
        assert torch.equal(plain, loaded)
        torch.testing.assert_close(plain, values([model]), rtol=1e-4, atol=1e-4)


def test_a_state_from_before_the_first_step_recuts() -> None:
    """With Adam's counts, which are not there yet, on another number of workers."""

    def begin() -> tuple[nn.Module, Any]:
        model = perceptron(0, 20, 30, 4)
        return model, CYCLED["AdamW at the owner"](model)

    states = simulate(2, lambda rank, world: copy.deepcopy(begin()[1].state_dict()))
    assert all(not any(counts_of(state)["kept"]) for state in states)

    def work(rank: int, world: int) -> tuple[Tensor, Tensor]:
        found = []
        for state in (None, reshard(states, rank, world)):
            model, optimizer = begin()
            if state is not None:
                optimizer.load_state_dict(state)
            step(model, optimizer, 0, rank, world)
            found.append(values([model]))
        return found[0], found[1]

    for fresh, recut in simulate(3, work):
        assert torch.equal(fresh, recut)


LOOKS: list[Callable[[Any], Any]] = [
    lambda optimizer: copy.deepcopy(optimizer.state_dict()),
    lambda optimizer: (optimizer.phase, optimizer.computes, optimizer.last_step),
    lambda optimizer: (optimizer.ledger.total(), vars(optimizer.times)),
    repr,
]


@pytest.mark.support("looking at state and accounts at any time", *FRONTS)
@settings(max_examples=15, deadline=None)
@given(
    way=st.sampled_from(sorted(CYCLED)),
    looks=st.lists(
        st.tuples(st.integers(0, 7), st.booleans(), st.sampled_from(range(len(LOOKS)))), max_size=6
    ),
)
def test_observers_change_no_bit(way: str, looks: list[tuple[int, bool, int]]) -> None:
    """``looks``: in which step, before or after backward, at what."""

    def work(rank: int, world: int, looks: list[tuple[int, bool, int]]) -> Tensor:
        model = perceptron(0, 20, 30, 4)
        optimizer = CYCLED[way](model)
        optimizer.param_groups[0]["code"] = "sign"
        for number in range(8):
            optimizer.zero_grad()
            for when, after, at in looks:
                if when == number and not after:
                    LOOKS[at](optimizer)
            model(batch(optimizer, number, rank, world)).square().mean().backward()
            for when, after, at in looks:
                if when == number and after:
                    LOOKS[at](optimizer)
            optimizer.step()
        optimizer.flush()
        return values([model])

    expected = simulate(2, lambda rank, world: work(rank, world, []))
    found = simulate(2, lambda rank, world: work(rank, world, looks))
    assert all(map(torch.equal, expected, found))
