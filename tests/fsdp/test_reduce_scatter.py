"""OneBitReduceScatter under FSDP2 on gloo ranks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from tests.conftest import RunRanks
from tests.optim.problems import full_loss, minibatch
from thinwire import OneBitReduceScatter


def network() -> nn.Sequential:
    """Rows that do not divide evenly, rows shorter than a group, and a vector."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 61), nn.ReLU(), nn.Linear(61, 300), nn.ReLU(), nn.Linear(300, 4)
    )


def shard(model: nn.Sequential, code: str | None) -> list[OneBitReduceScatter]:
    """Two nested FSDP modules and the root."""
    modules = [model[2], model]
    for module in modules:
        fully_shard(module)
    if code is None:
        return []
    comms = []
    for module in modules:
        comms.append(OneBitReduceScatter(module, code=code))
        module.set_custom_reduce_scatter(comms[-1])
    return comms


def full(tensors: Any) -> Tensor:
    return torch.cat([t.full_tensor().reshape(-1) for t in tensors]).detach()


def train(rank: int, world: int, code: str | None, steps: int) -> dict[str, Any]:
    model = network()
    comms = shard(model, code)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for step in range(steps):
        inputs, targets = minibatch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[rank::world]), targets[rank::world]).backward()
        optimizer.step()
    parameters = full(model.parameters())
    twin = network()
    torch.nn.utils.vector_to_parameters(parameters, twin.parameters())
    sent = sum(comm.ledger.total().bytes for comm in comms)
    return {"parameters": parameters, "loss": full_loss(twin), "bytes": sent}


@pytest.mark.parametrize("world", [2, 3])
def test_float32_is_fsdp(run_ranks: RunRanks, world: int) -> None:
    own = run_ranks(world, train, "float32", 10)
    reference = run_ranks(world, train, None, 10)
    for result, expected in zip(own, reference, strict=True):
        torch.testing.assert_close(
            result["parameters"], expected["parameters"], rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_one_bit_trains(run_ranks: RunRanks, world: int) -> None:
    results = run_ranks(world, train, "sign", 60)
    assert results[0]["loss"] < 0.6 * full_loss(network())
    if world > 1:
        dense = run_ranks(world, train, "float32", 60)
        assert results[0]["bytes"] < dense[0]["bytes"] / 15


def conserve(rank: int, world: int) -> list[Tensor]:
    """Sub-gradients, reduced shards and residuals of one comm object, in FSDP's own layout."""
    model = network()
    fully_shard(model)
    comm = OneBitReduceScatter(model)
    computed, reduced = torch.zeros(2, 0)

    class Recording:
        allocate = staticmethod(comm.allocate)

        def __call__(
            self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any
        ) -> None:
            nonlocal computed, reduced
            comm(output_tensor, input_tensor, group, op)
            if not len(computed):
                computed = torch.zeros(len(input_tensor), dtype=torch.float64)
                reduced = torch.zeros(len(output_tensor), dtype=torch.float64)
            computed += input_tensor.double()
            reduced += world * output_tensor.double()  # AVG

    model.set_custom_reduce_scatter(Recording())
    for step in range(8):
        inputs, targets = minibatch(step)
        F.cross_entropy(model(inputs[rank::world]), targets[rank::world]).backward()
    return [computed, reduced, comm.residual.double()]


@pytest.mark.parametrize("world", [2, 3])
def test_nothing_is_lost(run_ranks: RunRanks, world: int) -> None:
    results = run_ranks(world, conserve)
    computed = sum(computed for computed, _, _ in results)
    applied = torch.cat([reduced for _, reduced, _ in results])
    carried = sum(residual for _, _, residual in results)
    assert carried.abs().max() > 0
    torch.testing.assert_close(applied + carried, computed, rtol=1e-4, atol=1e-4)


def meet_nan(rank: int, world: int) -> list[bool]:
    model = network()
    fully_shard(model)
    comm = OneBitReduceScatter(model)
    model.set_custom_reduce_scatter(comm)
    seen = []
    for step in range(3):
        model.zero_grad()
        inputs, targets = minibatch(step)
        loss = F.cross_entropy(model(inputs[rank::world]), targets[rank::world])
        before = comm.residual.clone()
        (loss * (torch.nan if step == 1 and rank == 1 else 1)).backward()
        seen.append(bool(full([p.grad for p in model.parameters()]).isfinite().all()))
        if step == 1:
            seen.append(torch.equal(before, comm.residual))
    return seen


def test_a_nan_reaches_all_and_leaves_residuals(run_ranks: RunRanks) -> None:
    assert run_ranks(2, meet_nan) == [[True, False, True, True]] * 2


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="fully_shard"):
        OneBitReduceScatter(network())
