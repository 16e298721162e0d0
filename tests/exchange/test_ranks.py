"""The exchange over real gloo ranks equals the same exchange simulated in one process."""

from typing import Any

import pytest
import torch

from tests.conftest import RunRanks
from tests.simulation import Simulation
from thinwire.exchange import Ledger, TwoStage, own_wire, shared_wire
from thinwire.quantize import Columns, named_code

STEPS = 4
GROUPS = {
    "ordinary": [2048, 300, 784, 10, 1, 256, 256, 500],
    "fewer groups than ranks": [70],
    "empty": [],
    "long packets": [2048] * 1100,  # a stripe of four workers is one of 64 kB at one bit
}


def sub_gradient(rank: int, step: int, values: int) -> torch.Tensor:
    return torch.randn(values, generator=torch.Generator().manual_seed(1000 * step + rank))


def exchange(rank: int, world: int, group_lengths: list[int], code_name: str) -> dict[str, Any]:
    columns, code, ledger = Columns.from_lengths(group_lengths), named_code(code_name), Ledger()
    own = TwoStage(columns, rank, world)
    # Of two workers both directions share connections, of more they do not.
    wire = own_wire(None, None, ledger) if world > 2 else shared_wire(None, ledger)
    updates = []
    for step in range(STEPS):
        own.worker.values.copy_(sub_gradient(rank, step, columns.values))
        own.reduce(code, 1.0 + rank, wire, "gradients")
        own.worker.commit()
        own.distribute(code, own.worker.values, wire, "updates")
        own.owner.commit()
        updates.append(own.worker.values.clone())
    own_packets = own.packet_bytes(code)
    return {
        "updates": updates,
        "residual": own.worker.residual,
        "traffic": ledger.state_dict(),
        "expected bytes": (
            STEPS * (sum(own_packets) - own_packets[rank]),
            STEPS * (world - 1) * own_packets[rank],
        ),
    }


def exchanges(rank: int, world: int, group_lengths: list[int], codes: list[str]) -> dict[str, Any]:
    return {code: exchange(rank, world, group_lengths, code) for code in codes}


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("case", GROUPS)
def test_ranks_equal_simulation(run_ranks: RunRanks, world: int, case: str) -> None:
    # What is long for sign is long for all, and how it travels does not depend on the code.
    codes = ["sign"] if case == "long packets" else ["sign", "rotated", "4-bit", "float32"]
    everything = run_ranks(world, exchanges, GROUPS[case], codes)
    for code in codes:
        check_against_simulation(world, code, case, [found[code] for found in everything])


def check_against_simulation(
    world: int, code_name: str, case: str, results: list[dict[str, Any]]
) -> None:
    columns, code = Columns.from_lengths(GROUPS[case]), named_code(code_name)
    simulation = Simulation(columns, world)
    for step in range(STEPS):
        sub = [sub_gradient(rank, step, columns.values) for rank in range(world)]
        simulation.reduce(code, sub, [1.0 + rank for rank in range(world)])
        simulation.commit()
        expected = simulation.distribute(code)[0]
        for result in results:
            assert torch.equal(result["updates"][step], expected)
    for worker, result in zip(simulation.workers, results, strict=True):
        assert torch.equal(worker.worker.residual, result["residual"])


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize(("case", "messages"), [("ordinary", 1), ("long packets", 2)])
def test_the_ledger_counts_what_was_handed_over(
    run_ranks: RunRanks, world: int, case: str, messages: int
) -> None:
    """Long packets of gradients travel in two messages, the header last."""
    for result in run_ranks(world, exchange, GROUPS[case], "sign"):
        gradients, updates = result["expected bytes"]
        assert result["traffic"] == {
            "gradients": {
                "collectives": STEPS,
                "messages": STEPS * (world - 1) * messages,
                "bytes": gradients,
            },
            "updates": {"collectives": STEPS, "messages": STEPS * (world - 1), "bytes": updates},
        }


def exchange_on_shared_links(rank: int, world: int, case: list[int], code: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUP_WORLD_SIZE", "2")
        patch.setenv("WORLD_SIZE", str(world))
        return exchange(rank, world, case, code)


@pytest.mark.parametrize("case", ["ordinary", "fewer groups than ranks"])
def test_updates_passed_from_hand_to_hand_are_the_same(run_ranks: RunRanks, case: str) -> None:
    """Where machines have several workers, with the bytes of each packet on each link counted."""
    world = 4
    direct = run_ranks(world, exchange, GROUPS[case], "sign")
    passed = run_ranks(world, exchange_on_shared_links, GROUPS[case], "sign")
    code, columns = named_code("sign"), Columns.from_lengths(GROUPS[case])
    sizes = TwoStage(columns, 0, world).packet_bytes(code)
    for rank, (one, other) in enumerate(zip(direct, passed, strict=True)):
        for a, b in zip(one["updates"], other["updates"], strict=True):
            assert torch.equal(a, b)
        assert other["traffic"]["gradients"] == one["traffic"]["gradients"]
        assert other["traffic"]["updates"] == {
            "collectives": STEPS,
            "messages": STEPS * (world - 1),
            "bytes": STEPS * (sum(sizes) - sizes[(rank + 1) % world]),
        }


def use_the_rest_of_the_wire(rank: int, world: int) -> list[Any]:
    ledger = Ledger()
    wire = shared_wire(None, ledger)
    tensor = torch.full((5,), float(rank))
    wire.broadcast(tensor, "broadcast")
    whole = torch.arange(6.0) if rank == 0 else torch.empty(0)
    part = wire.scatter(whole, [3, 2, 1], "scatter")
    total = wire.sum(torch.tensor([[1.0], [rank]]), "sum")
    bytes_sent = {name: stage["bytes"] for name, stage in ledger.state_dict().items()}
    return [tensor.tolist(), part.tolist(), total.tolist(), bytes_sent]


def test_broadcast_scatter_and_sum(run_ranks: RunRanks) -> None:
    zero, one, two = run_ranks(3, use_the_rest_of_the_wire)
    assert [zero[0], one[0], two[0]] == [[0.0] * 5] * 3
    assert [zero[1], one[1], two[1]] == [[0.0, 1.0, 2.0], [3.0, 4.0], [5.0]]
    assert zero[2] == one[2] == two[2] == [[3.0], [3.0]]
    assert zero[3] == {"broadcast": 40, "scatter": 12, "sum": 16}
    assert one[3] == {"broadcast": 0, "scatter": 0, "sum": 16}
