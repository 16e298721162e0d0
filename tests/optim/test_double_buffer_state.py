"""Double buffering over cold starts, checkpoints and other numbers of workers."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.optim.problems import flat, minibatch, serial, share, train_step
from tests.optim.shared_network import nan, network
from thinwire import OneBitSGD, reshard, simulate
from thinwire.exchange import counts_of


def start_cold(rank: int, world: int, mode: str, late: bool) -> list[Tensor]:
    """Double buffered from the start, or only asked for once the cold start has ended."""
    model = network()
    options = {"lr": 0.1, "momentum": 0.5, "bucket_mb": 0.005, "start_samples": 200}
    optimizer = OneBitSGD(model.named_parameters(), start=mode, double_buffer=not late, **options)
    seen = []
    for step in range(10):
        optimizer.double_buffer |= optimizer.phase == "steady"
        train_step(model, optimizer, step, rank, world)
        seen.append(flat(model))
    optimizer.flush()
    return [*seen, flat(model)]


@pytest.mark.parametrize("mode", ["serial", "float32"])
def test_a_cold_start_is_not_double_buffered(mode: str) -> None:
    straight = simulate(2, start_cold, mode, False)
    for one, other in zip(straight, simulate(2, start_cold, mode, True), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    # 200 samples are five steps of 48; the sixth is the first half in flight.
    steps = straight[0]
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(steps)]
    assert moved == [*[True] * 4, False, *[True] * 5]


def switch_off(rank: int, world: int) -> tuple[Tensor, Tensor]:
    model, optimizer = make({})
    for step in range(4):
        train_step(model, optimizer, step, rank, world)
    optimizer.flush()
    before = flat(model)
    train_step(model, optimizer, 4, rank, world)
    optimizer.double_buffer = False
    train_step(model, optimizer, 5, rank, world)
    return before, flat(model)


def switch_off_by_hand(rank: int, world: int) -> tuple[Tensor, Tensor]:
    """The same, the half in flight landed by ``flush`` after the next one's gradient."""
    model, optimizer = make({})
    for step in range(5):
        train_step(model, optimizer, step, rank, world)
        if step == 3:
            optimizer.flush()
            before = flat(model)
    inputs, targets = share(minibatch(5), rank, world)
    optimizer.zero_grad()
    optimizer.samples = len(inputs)
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.flush()
    optimizer.step()
    optimizer.flush()
    return before, flat(model)


def test_switched_off_what_is_in_flight_lands_in_the_next_step() -> None:
    off, by_hand = simulate(2, switch_off), simulate(2, switch_off_by_hand)
    assert torch.equal(off[0][0], by_hand[0][0])
    assert torch.equal(off[0][1], by_hand[0][1])
    assert torch.equal(off[1][1], off[0][1])


def make(options: dict[str, Any], seed: int = 0) -> tuple[nn.Module, OneBitSGD]:
    model = network(seed)
    base = {"lr": 0.05, "momentum": 0.5, "bucket_mb": 0.005, "double_buffer": True}
    return model, OneBitSGD(model.named_parameters(), **{**base, **options})


def resume(rank: int, world: int, options: dict[str, Any], stop: int) -> list[Tensor]:
    """Undisturbed; saved at ``stop`` on the way; gone on from what was saved."""
    runs = [make(options), make(options)]
    saved: list[Any] = []
    for step in range(14):
        if step == stop:
            model, optimizer = runs[1]
            saved = [copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())]
        for model, optimizer in runs:
            train_step(model, optimizer, step, rank, world)
    runs.append(make({**options, "lr": 99.0}, seed=1))
    model, optimizer = runs[2]
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    for step in range(stop, 14):
        train_step(model, optimizer, step, rank, world)
    for _, optimizer in runs:
        optimizer.flush()
    return [flat(model) for model, _ in runs]


@pytest.mark.parametrize("stop", [3, 5, 10])
@pytest.mark.parametrize("adagrad", ["none", "local", "aggregate"])
def test_saving_changes_nothing_and_resuming_is_bit_identical(adagrad: str, stop: int) -> None:
    """In the cold start, where nothing is in flight; at its end; with a half in flight."""
    options = {"adagrad": adagrad, **serial(200)}
    for straight, saved_on_the_way, resumed in simulate(2, resume, options, stop):
        assert torch.equal(straight, saved_on_the_way)
        assert torch.equal(straight, resumed)


def resume_after_nan(rank: int, world: int) -> list[Tensor]:
    """What is in flight when the state is taken will be skipped."""
    runs = [make({}), make({}, seed=1)]
    (model, optimizer), (other, resumed) = runs
    for step in range(3):
        handle = model[2].weight.register_hook(nan) if step == 2 else None
        train_step(model, optimizer, step, rank, world)
    assert handle is not None
    handle.remove()
    state = optimizer.state_dict()
    assert counts_of(state)["pending"]["nonfinite"] == [0, "2.weight"]
    assert not any(entry["pending"].any() for entry in state["state"].values())
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(state))
    for step in range(3, 6):
        for m, o in runs:
            train_step(m, o, step, rank, world)
        assert resumed.last_step == optimizer.last_step
    return [flat(model), flat(other)]


def test_a_half_that_will_be_skipped_is_stored_as_such() -> None:
    for straight, resumed in simulate(2, resume_after_nan):
        assert torch.equal(straight, resumed)


def run_on(rank: int, world: int, steps: range, saved: Any) -> Any:
    """What is held at the beginning and at the end, and what ``flush`` then does to the model."""
    model, optimizer = make({"adagrad": "aggregate", "axis": "input"})
    if saved is not None:
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(reshard(saved[1], rank, world))
    start = copy.deepcopy(optimizer.state_dict())
    for step in steps:
        train_step(model, optimizer, step, rank, world)
    end, weights = copy.deepcopy([optimizer.state_dict(), model.state_dict()])
    optimizer.flush()
    return start, end, weights, flat(model)


def test_what_is_in_flight_goes_along_to_other_numbers_of_workers() -> None:
    saved = None
    for number, world in enumerate((3, 1, 2)):
        results = simulate(world, run_on, range(5 * number, 5 * number + 5), saved)
        for start, end, weights, flushed in results:
            assert torch.equal(flushed, results[0][3]), "replicas agree"
            for i, (name, value) in enumerate(weights.items()):
                assert torch.equal(end["state"][i]["pending"], results[0][1]["state"][i]["pending"])
                landed = value - end["state"][i]["pending"]
                assert torch.equal(landed.flatten(), flushed[: value.numel()]), name
                flushed = flushed[value.numel() :]
                if saved is not None:
                    before = saved[1][0]["state"][i]["pending"]
                    assert bool(before.any())
                    assert torch.equal(start["state"][i]["pending"], before)
        saved = results[0][2], [end for _, end, _, _ in results]


def test_states_with_and_without_a_half_in_flight_fit_each_other() -> None:
    """A plain optimiser takes up a buffered one's state, and the other way round."""
    model, buffered = make({})
    for step in range(3):
        train_step(model, buffered, step, 0, 1)
    other, plain = make({"double_buffer": False}, seed=1)
    other.load_state_dict(model.state_dict())
    plain.load_state_dict(copy.deepcopy(buffered.state_dict()))
    buffered.flush()
    plain.flush()
    assert torch.equal(flat(model), flat(other))
    assert not torch.equal(flat(model), flat(network(1)))
    train_step(other, plain, 3, 0, 1)
    buffered.load_state_dict(copy.deepcopy(plain.state_dict()))
    before = flat(model)
    buffered.flush()
    assert buffered.last_step is None
    assert torch.equal(flat(model), before)


def ledgers(rank: int, world: int, double_buffer: bool) -> dict[str, dict[str, int]]:
    model, optimizer = make({"double_buffer": double_buffer})
    for step in range(5):
        train_step(model, optimizer, step, rank, world)
    optimizer.flush()
    return optimizer.ledger.state_dict()


def test_what_was_sent_is_in_the_ledger_once() -> None:
    for plain, buffered in zip(
        simulate(2, ledgers, False), simulate(2, ledgers, True), strict=True
    ):
        assert buffered == plain
        assert plain["gradients"]["bytes"] > 0
