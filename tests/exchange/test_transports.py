"""What every transport does, whatever carries it: one suite for all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import RunRanks
from thinwire import simulate
from thinwire.exchange import (
    Ledger,
    Wire,
    own_wire,
    register_transport,
    shared_wire,
    transport_names,
)
from thinwire.exchange.transport import Alone, links, registry
from thinwire.exchange.transport.threads import simulated

Run = Callable[..., list[Any]]


@pytest.fixture(params=["gloo", "threads"])
def run(request: pytest.FixtureRequest, run_ranks: RunRanks) -> Run:
    """Workers that the transport connects: processes, or threads."""
    return run_ranks if request.param == "gloo" else simulate


def packet(source: int, target: int, size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float32) + 1000 * source + 100 * target


def everything(rank: int, world: int, own: bool, size: int) -> dict[str, Any]:
    """Every operation of a wire, several times, so that one round cannot be taken for another."""
    ledger = Ledger()
    wire = own_wire(None, None, ledger) if own else shared_wire(None, ledger)
    found: dict[str, Any] = {"place": (wire.rank, wire.world)}
    for step in range(3):
        outgoing = [packet(rank, peer, size + peer) + step for peer in range(world)]
        messages = wire.start(outgoing, [size + rank] * world, "start", header=4)
        for peer in messages.ring():
            messages.send_early(peer)
        messages.send()
        found["ring"] = [*messages.ring()], [*messages.ring(-1)]
        found[f"all {step}"] = messages.wait()
        found[f"gather {step}"] = wire.all_gather(packet(rank, 0, size) + step, "gather")
        runs = [packet(rank, peer, peer if rank else 0) for peer in range(world)]
        found[f"exchange {step}"] = wire.exchange(runs, [0] + [rank] * (world - 1), "exchange")
        whole = torch.arange(float(world)) if rank == 0 else torch.empty(0)
        found[f"scatter {step}"] = wire.scatter(whole, [1] * world, "scatter")
        tensor = torch.full((size,), rank + step + 0.1)
        wire.broadcast(tensor, "broadcast")
        found[f"broadcast {step}"] = tensor
        tensor = torch.full((size,), float(rank + step))
        wire.all_reduce(tensor, "all_reduce")
        found[f"all_reduce {step}"] = tensor
    alone = wire.alone()
    kept = torch.tensor([float(rank)])
    alone.all_reduce(kept, "nothing")
    found["alone"] = kept, alone.all_gather(kept, "nothing"), (alone.rank, alone.world)
    found["ledger"] = ledger.state_dict()
    return found


@pytest.mark.parametrize("own", [True, False], ids=["own", "shared"])
@pytest.mark.parametrize(("world", "size"), [(1, 5), (2, 5), (3, 0), (3, 100_000)])
def test_every_operation(run: Run, world: int, size: int, own: bool) -> None:
    results = run(world, everything, own, size)
    for rank, found in enumerate(results):
        assert found["place"] == (rank, world)
        ring = [(rank + i) % world for i in range(1, world)]
        assert found["ring"] == (ring, ring[::-1])
        for step in range(3):
            expected = [packet(source, rank, size + rank) + step for source in range(world)]
            same(found[f"all {step}"], expected)
            same(found[f"gather {step}"], [packet(k, 0, size) + step for k in range(world)])
            runs = [packet(source, rank, rank if source else 0) for source in range(world)]
            same(found[f"exchange {step}"], runs)
            same([found[f"scatter {step}"]], [torch.tensor([float(rank)])])
            same([found[f"broadcast {step}"]], [torch.full((size,), step + 0.1)])
            total = torch.full((size,), float(sum(k + step for k in range(world))))
            same([found[f"all_reduce {step}"]], [total])
        own_value = torch.tensor([float(rank)])
        kept, gathered, place = found["alone"]
        same([kept, *gathered], [own_value, own_value])
        assert place == (0, 1)


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("world", "size"), [(2, 5), (3, 100_000)])
def test_accounts_do_not_depend_on_the_transport(
    run_ranks: RunRanks, world: int, size: int
) -> None:
    over_gloo = run_ranks(world, everything, True, size)
    over_threads = simulate(world, everything, True, size)
    ledgers = [[found["ledger"] for found in results] for results in (over_gloo, over_threads)]
    assert ledgers[0] == ledgers[1]
    assert ledgers[0][0]["start"]["messages"] == 3 * (world - 1) * (2 if size > 70_000 else 1)


def test_a_transport_of_ones_own_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_CONNECT", dict(registry._CONNECT))
    register_transport("own", lambda group, timeout: Alone())
    assert "own" in transport_names()
    assert own_wire(None, None, Ledger(), "own").world == 1
    with pytest.raises(ValueError, match="transport: 'own' is taken"):
        register_transport("own", lambda group, timeout: Alone())
    with pytest.raises(ValueError, match="transport: expected one of"):
        own_wire(None, None, Ledger(), "pigeons")


def on_meta(rank: int, world: int) -> str:
    wire = own_wire(None, None, Ledger())
    packets = [torch.empty(3, device="meta")] * world
    try:
        wire.start(packets, [3] * world, "gradients")
    except ValueError as error:
        return str(error)
    return "no error"


def test_gloo_refuses_what_does_not_lie_in_cpu_memory(run_ranks: RunRanks) -> None:
    for message in run_ranks(2, on_meta):
        assert message == "transport gloo: expected packets in CPU memory, got meta"


# --- simulate -------------------------------------------------------------------------------------


def leave_early(rank: int, world: int) -> None:
    wire = own_wire(None, None, Ledger())
    wire.all_gather(torch.zeros(1), "together")
    if rank != 1:
        wire.all_gather(torch.zeros(1), "without worker 1")


def fail(rank: int, world: int) -> None:
    wire = own_wire(None, None, Ledger())
    wire.all_gather(torch.zeros(1), "together")
    if rank == 2:
        raise KeyError("the culprit")
    wire.all_gather(torch.zeros(1), "without worker 2")


def test_a_worker_that_ends_early_is_named_and_nobody_hangs() -> None:
    with pytest.raises(RuntimeError, match="worker 1 has ended while others wait for it"):
        simulate(3, leave_early)


def test_the_first_failure_is_what_simulate_raises() -> None:
    with pytest.raises(KeyError, match="the culprit"):
        simulate(4, fail)
    with pytest.raises(ValueError, match="workers: expected >= 1, got 0"):
        simulate(0, fail)


def two_wires(rank: int, world: int) -> list[float]:
    """The n-th wire of one worker is connected with the n-th of the others."""
    one, other = (own_wire(None, None, Ledger()) for _ in range(2))
    if rank == 0:  # in another order than the rest
        second, first = begin(other, 10.0), begin(one, 1.0)
    else:
        first, second = begin(one, 1.0), begin(other, 10.0)
    return [float(torch.stack(m.wait()).sum()) for m in (first, second)]


def begin(wire: Wire, value: float) -> Any:
    messages = wire.start_gather(torch.tensor([value]), [1] * wire.world, "gather")
    messages.send()
    return messages


def test_wires_are_matched_by_their_order() -> None:
    assert simulate(3, two_wires) == [[3.0, 30.0]] * 3


def test_sixty_four_workers() -> None:
    results = simulate(64, everything, True, 2)
    assert {tuple(found["all_reduce 0"].tolist()) for found in results} == {(2016.0, 2016.0)}
    assert simulated() is None, "outside of it there is nothing left"


def many_lives(rank: int, world: int) -> list[int]:
    """Wires one after another, two at a time, closed or dropped; how many links they took."""
    counts = []
    held = [own_wire(None, None, Ledger())]
    for life in range(6):
        wire = own_wire(None, None, Ledger())
        held.append(wire)
        everyone = wire.all_gather(torch.tensor([rank + 10 * life]), "test")
        assert [int(n) for n in everyone] == [k + 10 * life for k in range(world)]
        first = held.pop(0)
        if life % 2:
            first.close()
        del first, wire
        counts.append(sum(map(len, links._known.links.values())))
    del held
    failed = own_wire(None, None, Ledger())
    failed.start([torch.zeros(1)] * world, [1] * world, "never sent")
    failed.close()
    own_wire(None, None, Ledger()), own_wire(None, None, Ledger())
    return [*counts, sum(map(len, links._known.links.values()))]


def test_links_are_lent_again_unless_something_is_under_way(run_ranks: RunRanks) -> None:
    for counts in run_ranks(2, many_lives):
        assert counts[:-1] == [2] * 6
        assert counts[-1] == 3, "those on which something is under way are not lent again"
