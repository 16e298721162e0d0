"""Half-batch double buffering: the delayed-update recurrence, bit for bit, and what may disturb it.

theta_{h+1} = theta_h - u_{h-1}, u_h = U(gradient of half h at theta_h): see optim/double_buffer.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import RunRanks
from tests.optim.problems import flat, share, train_step
from tests.optim.shared_network import nan, network
from tests.simulation import Simulation
from thinwire import OneBitSGD, OwnerOptimizer, simulate
from thinwire.exchange.transport import registry
from thinwire.exchange.transport.alone import Alone, OwnPacket
from thinwire.optim import post_process
from thinwire.quantize import FlatSpace, named_code

HALF, MINIBATCH = 24, 48
TAU = 100.0  # samples
SHAPE = (7, 90)


def half(h: int, size: int = HALF) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(h)
    inputs = torch.randn(size, SHAPE[1], generator=generator)
    return inputs, (inputs[:, : SHAPE[0]] + inputs[:, -SHAPE[0] :]).argmax(dim=1)


def gradient(weight: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of the mean cross entropy of a linear layer, as autograd computes it."""
    leaf = nn.Parameter(weight.clone())
    F.cross_entropy(inputs @ leaf.T, targets).backward()
    assert leaf.grad is not None
    return leaf.grad


def drive(rank: int, world: int, halves: int, options: dict[str, Any]) -> list[Tensor]:
    """A user's loop: the parameters each half is computed on, and those after ``flush``."""
    weight = nn.Parameter(torch.zeros(SHAPE))
    optimizer = OneBitSGD([("weight", weight)], double_buffer=True, **options)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    seen = []
    for h in range(halves):
        seen.append(weight.detach().clone())
        inputs, targets = share(half(h), rank, world)
        optimizer.zero_grad()
        optimizer.samples = len(inputs)
        F.cross_entropy(inputs @ weight.T, targets).backward()
        optimizer.step()
        schedule.step()
    optimizer.flush()
    optimizer.close()
    return [*seen, weight.detach().clone()]


def recurrence(world: int, halves: int, adagrad: str) -> list[Tensor]:
    """The same in plain torch; rates per sample, converted from the minibatch to its half."""
    theta, late, velocity, squares = torch.zeros(4, *SHAPE)
    momentum = torch.tensor(-MINIBATCH / TAU).double().exp().item()
    m = momentum ** (HALF / MINIBATCH)
    ratio = HALF / MINIBATCH if adagrad == "none" else (HALF / MINIBATCH) ** 0.5
    seen = []
    for h in range(halves):
        seen.append(theta.clone())
        parts = [share(half(h), rank, world) for rank in range(world)]
        total = sum(len(part[0]) * gradient(theta, *part) for part in parts)
        g = total / HALF
        if adagrad == "aggregate":
            squares.addcmul_(g, g)
            g = g / (squares.sqrt() + 1e-10)
        velocity = (velocity * m).add(g, alpha=(1 - m) / (1 - momentum))
        theta = theta - late
        late = velocity * (0.5 * 0.9**h * ratio)
    return [*seen, theta - late]


def rates(adagrad: str) -> dict[str, Any]:
    momentum = torch.tensor(-MINIBATCH / TAU).double().exp().item()
    return {"lr": 0.5, "momentum": momentum, "batch_size": MINIBATCH, "adagrad": adagrad}


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("adagrad", ["none", "aggregate"])
def test_updates_are_those_of_the_delayed_recurrence(world: int, adagrad: str) -> None:
    """Float32: the definition in plain torch, bit for bit."""
    expected = recurrence(world, 12, adagrad)
    options = {**rates(adagrad), "code": "float32"}
    for seen in simulate(world, drive, 12, options):
        assert torch.equal(seen[0], seen[1]), "nothing has landed yet"
        for one, other in zip(seen, expected, strict=True):
            assert torch.equal(one, other)
        assert not torch.equal(seen[-1], seen[-2])


def test_over_real_ranks(run_ranks: RunRanks) -> None:
    expected = recurrence(2, 8, "none")
    for seen in run_ranks(2, drive, 8, {**rates("none"), "code": "float32"}):
        assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))


def coded_recurrence(world: int, halves: int, code: str) -> list[Tensor]:
    """The recurrence with U made of the exchange's parts, one after the other, in one process."""
    simulation = Simulation(FlatSpace([torch.Size(SHAPE)]).columns, world)
    theta, late = torch.zeros(2, *SHAPE)
    states: list[dict[str, Tensor]] = [{} for _ in range(world)]
    quantiser, seen = named_code(code), []
    for h in range(halves):
        seen.append(theta.clone())
        parts = [share(half(h), rank, world) for rank in range(world)]
        sub = [gradient(theta, *part).reshape(-1) for part in parts]
        simulation.reduce(quantiser, sub, [float(len(part[0])) for part in parts])
        simulation.commit()
        for worker, state in zip(simulation.workers, states, strict=True):
            lr = 0.2 * 0.9**h
            post_process(worker.owner.values.div_(HALF), None, state, lr=lr, momentum=0.5)
        theta = theta - late
        late = simulation.distribute(quantiser)[0].view(SHAPE)
    return [*seen, theta - late]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("code", ["sign", "rotated", "4-bit"])
def test_quantised_updates_are_those_of_the_recurrence(world: int, code: str) -> None:
    expected = coded_recurrence(world, 10, code)
    for seen in simulate(world, drive, 10, {"lr": 0.2, "momentum": 0.5, "code": code}):
        assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))


@pytest.mark.parametrize("optimizer_class", [torch.optim.AdamW, torch.optim.RMSprop])
def test_an_owners_optimiser_sees_gradients_one_half_late(optimizer_class: Any) -> None:
    """Its weight decay acts on the model that the update is subtracted from."""
    options = {"lr": 0.01, "weight_decay": 0.1}
    weight, plain = nn.Parameter(torch.ones(SHAPE)), nn.Parameter(torch.ones(SHAPE))
    owner = OwnerOptimizer(optimizer_class, [weight], code="float32", double_buffer=True, **options)
    torchs = optimizer_class([plain], **options)
    late: Tensor | None = None
    for h in range(8):
        inputs, targets = half(h)
        owner.zero_grad()
        F.cross_entropy(inputs @ weight.T, targets).backward()
        owner.step()
        fresh = gradient(plain.detach(), inputs, targets)
        if late is not None:
            plain.grad = late
            torchs.step()
        late = fresh
        torch.testing.assert_close(weight, plain, rtol=1e-5, atol=1e-6)
    assert (weight - 1).abs().max() > 0.01


# --- conservation ---------------------------------------------------------------------------------


def account(rank: int, world: int, code: str, sizes: list[int], stop: int) -> dict[str, Tensor]:
    """Train with lr 1 and no momentum, so that updates are mean gradients; weigh what is where."""
    generator = torch.Generator().manual_seed(rank)
    weight = nn.Parameter(torch.zeros(SHAPE))
    optimizer = OneBitSGD([weight], lr=1.0, code=code, double_buffer=True)
    computed = torch.zeros(SHAPE, dtype=torch.float64)
    for h, size in enumerate(sizes):
        given = torch.randn(SHAPE, generator=generator)
        optimizer.zero_grad()
        optimizer.samples = size
        (weight * given).sum().backward()
        optimizer.step()
        computed += given.double() / world
        if h == stop:
            optimizer.state_dict()  # waits, and changes nothing
    state = optimizer.state_dict()["state"][0]
    optimizer.close()
    owners = torch.zeros(SHAPE, dtype=torch.float64)
    if "owned" in state:
        owners.view(-1)[slice(*state["owned"])] = state["owner_residual"].double()
    # Residuals are in sums over samples; all halves have world * sizes[0] of them.
    workers = state["residual"].double() / (world * sizes[0])
    found = {"computed": computed, "carried": workers + owners}
    return found | {"pending": state["pending"].clone(), "applied": -weight.detach().double()}


@settings(max_examples=15)
@given(
    st.integers(1, 3),
    st.sampled_from(["sign", "rotated", "float32"]),
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(0, 6),
)
def test_conservation(world: int, code: str, size: int, halves: int, stop: int) -> None:
    """Applied + pending + carried = computed, with the last half's update still in flight."""
    results = simulate(world, account, code, [size] * halves, stop)
    applied, pending = results[0]["applied"], results[0]["pending"]
    assert all(torch.equal(result["applied"], applied) for result in results)
    assert all(torch.equal(result["pending"], pending) for result in results)
    assert bool(pending.any())
    computed = sum(result["computed"] for result in results)
    carried = sum(result["carried"] for result in results)
    torch.testing.assert_close(applied + pending + carried, computed, rtol=1e-4, atol=1e-4)


# --- while an exchange is in flight ---------------------------------------------------------------


class Gate(Alone):
    """A transport that holds stage 1 of every exchange until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.reached = threading.Event()

    def start(self, outgoing: Sequence[Tensor], incoming: Sequence[int], header: int) -> OwnPacket:
        self.reached.set()
        assert self.open.wait(20)
        return super().start(outgoing, incoming, header)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(registry, "_CONNECT", {"gate": lambda group, timeout: gate})
    yield gate
    gate.open.set()


def test_the_next_half_is_computed_during_the_exchange(gate: Gate) -> None:
    """And nothing it does, nor a scheduler, reaches what is on its way."""
    weight = nn.Parameter(torch.ones(SHAPE))
    optimizer = OneBitSGD([weight], lr=0.5, code="float32", double_buffer=True, transport="gate")
    (2 * weight).sum().backward()
    optimizer.step()
    assert gate.reached.wait(20)
    optimizer.zero_grad()
    optimizer.param_groups[0]["lr"] = 99.0
    (7 * weight).sum().backward()
    assert torch.equal(weight, torch.ones(SHAPE)), "the exchange has not ended"
    gate.open.set()
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.step()
    assert torch.equal(weight, torch.zeros(SHAPE)), "lr 0.5 on a gradient of 2"
    optimizer.flush()
    assert torch.equal(weight, torch.full(SHAPE, -1.75)), "lr 0.25 on a gradient of 7"
    optimizer.flush()
    assert torch.equal(weight, torch.full(SHAPE, -1.75)), "nothing is in flight"


@pytest.mark.support(
    "parameters changed for a while between steps (averaged weights)", "OneBitSGD", "OwnerOptimizer"
)
@pytest.mark.parametrize("owner", [False, True])
def test_parameters_may_be_others_while_an_exchange_is_in_flight(gate: Gate, owner: bool) -> None:
    """Such as averaged ones for an evaluation: decay is of those that the step found."""
    weight = nn.Parameter(torch.ones(SHAPE))
    options = {"lr": 0.5, "weight_decay": 1.0, "code": "float32", "transport": "gate"}
    if owner:
        optimizer = OwnerOptimizer(torch.optim.SGD, [weight], double_buffer=True, **options)
    else:
        optimizer = OneBitSGD([weight], double_buffer=True, **options)
    weight.sum().backward()
    optimizer.step()
    assert gate.reached.wait(20)
    with torch.no_grad():
        weight.fill_(100.0)
        gate.open.set()
        optimizer.state_dict()  # waits for the exchange
        weight.fill_(1.0)
    optimizer.flush()
    assert torch.equal(weight, torch.zeros(SHAPE)), "lr 0.5 on a gradient of 1 and a decay of 1"


def test_accumulation_and_clipping_act_on_what_is_sent() -> None:
    """Gradients leave in ``step``."""
    weight = nn.Parameter(torch.zeros(SHAPE))
    optimizer = OneBitSGD([weight], lr=1.0, code="float32", double_buffer=True)
    for _ in range(2):
        weight.sum().backward()
    nn.utils.clip_grad_value_([weight], 1.5)
    optimizer.step()
    optimizer.flush()
    assert torch.equal(weight, torch.full(SHAPE, -1.5))


# --- non-finite gradients -------------------------------------------------------------------------


def meet_nan(rank: int, world: int, bad: list[int], max_skips: int) -> Any:
    model = network()
    optimizer = OneBitSGD(
        model.named_parameters(), lr=0.1, bucket_mb=0.005, max_skips=max_skips, double_buffer=True
    )
    reports, seen = [], []
    for h in range(8):
        handle = None
        if h in bad and rank == world - 1:
            handle = model[2].weight.register_hook(nan)
        try:
            train_step(model, optimizer, h, rank, world)
        except FloatingPointError as error:
            return h, str(error)
        if handle is not None:
            handle.remove()
        reports.append(optimizer.last_step)
        seen.append(flat(model))
    optimizer.flush()
    return [*reports[1:], optimizer.last_step], [*seen, flat(model)]


@pytest.mark.parametrize("world", [1, 3])
def test_a_nan_makes_all_skip_that_half(world: int) -> None:
    bad = [2, 3, 7]
    results = simulate(world, meet_nan, bad, 10)
    for reports, seen in results:
        culprit = (world - 1, "2.weight")
        assert [r.nonfinite for r in reports] == [culprit if h in bad else None for h in range(8)]
        for h in range(8):  # half h lands between seen[h] and seen[h + 1]
            assert torch.equal(seen[h], seen[h + 1]) == (h in bad)
        assert all(torch.equal(a, b) for a, b in zip(seen, results[0][1], strict=True))


def test_too_many_skips_in_a_row_end_the_run_on_all_workers() -> None:
    for h, message in simulate(2, meet_nan, [1, 2, 3, 4], 2):
        assert h == 4, "the third bad half lands before the one after it"
        assert "worker 1: non-finite gradient in '2.weight'" in message
        assert "3 steps in a row" in message


def overflow(rank: int, world: int) -> list[str]:
    parameter = nn.Parameter(torch.ones(300))
    optimizer = OneBitSGD([("w", parameter)], lr=1e30, double_buffer=True)
    (1e30 * parameter.sum()).backward()
    optimizer.step()
    messages = []
    for land in (optimizer.flush, optimizer.state_dict):
        with pytest.raises(FloatingPointError) as caught:
            land()
        messages.append(str(caught.value))
    return messages


def test_an_update_that_overflows_is_an_error_wherever_it_is_waited_for() -> None:
    for messages in simulate(2, overflow):
        assert all("the update of 'w' is not finite" in message for message in messages)
