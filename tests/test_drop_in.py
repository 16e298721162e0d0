"""``thinwire.compress``: one call for DistributedDataParallel, and for FSDP2 layer by layer."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import thinwire
from tests.conftest import RunRanks
from tests.optim.oracle import batch, perceptron, values


def train(model: nn.Module, optimizer: Any, rank: int, world: int, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        model(batch(optimizer, step, rank, world)).square().mean().backward()
        optimizer.step()


def alone(steps: int) -> torch.Tensor:
    model = perceptron(0, 20, 30, 4)
    train(model, torch.optim.SGD(model.parameters(), lr=0.01), 0, 1, range(steps))
    return values([model])


def under_ddp(rank: int, world: int) -> dict[str, Any]:
    model = perceptron(0, 20, 30, 4)
    ddp = DistributedDataParallel(model)
    state = thinwire.compress(ddp, code="sign", overrides={"0.weight": "float32"})
    train(ddp, torch.optim.SGD(ddp.parameters(), lr=0.01), rank, world, range(2))
    told = {}
    for name, again in {
        "twice": lambda: thinwire.compress(ddp),
        "the optimiser too": lambda: thinwire.OneBitSGD(ddp.parameters()),
        "a bare model": lambda: thinwire.compress(model),
    }.items():
        with pytest.raises((TypeError, ValueError)) as refused:
            again()
        told[name] = str(refused.value)
    exact = DistributedDataParallel(perceptron(0, 20, 30, 4))
    thinwire.compress(exact, code="float32")
    train(exact, torch.optim.SGD(exact.parameters(), lr=0.01), rank, world, range(3))
    return {
        "names": sorted(state.state_dict()["state"]),
        "sent": state.ledger.total("gradients", "updates").bytes,
        "told": told,
        "exact": values([exact]),
    }


@pytest.mark.support("thinwire.compress(model)", "DDP hook")
def test_a_model_under_ddp(run_ranks: RunRanks) -> None:
    for found in run_ranks(2, under_ddp):
        assert found["names"] == ["0.bias", "0.weight", "2.bias", "2.weight"]
        assert found["sent"] > 0
        assert "communication hook already" in found["told"]["twice"]
        assert "exchanged by DistributedDataParallel already" in found["told"]["the optimiser too"]
        assert "got Sequential; for a bare model" in found["told"]["a bare model"]
        torch.testing.assert_close(found["exact"], alone(3))


def sharded(code: str) -> tuple[nn.Module, thinwire.ShardedState]:
    model = perceptron(0, 20, 30, 4)
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    return model, thinwire.compress(model, code=code)


def whole(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.full_tensor().detach().reshape(-1) for p in model.parameters()])


def under_fsdp(rank: int, world: int) -> dict[str, Any]:
    exact, _ = sharded("float32")
    train(exact, torch.optim.SGD(exact.parameters(), lr=0.01), rank, world, range(3))
    model, state = sharded("sign")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    train(model, optimizer, rank, world, range(3))
    saved = copy.deepcopy((model.state_dict(), state.state_dict()))
    other, resumed = sharded("sign")
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    train(model, optimizer, rank, world, range(3, 5))
    train(other, torch.optim.SGD(other.parameters(), lr=0.01), rank, world, range(3, 5))
    told = {}
    for name, refused in {
        "twice": lambda: thinwire.compress(model),
        "a start": lambda: thinwire.compress(model, start_steps=3),
        "no parameters": lambda: thinwire.OneBitReduceScatter(model),
    }.items():
        with pytest.raises(ValueError, match=":") as error:
            refused()
        told[name] = str(error.value)
    return {
        "names": sorted(saved[1]["state"]),
        "sent": state.ledger.total().bytes,
        "resumed": torch.equal(whole(model), whole(other)),
        "exact": whole(exact),
        "told": told,
    }


@pytest.mark.support("thinwire.compress(model)", "FSDP2")
@pytest.mark.support("layers that are fully_shard-ed one by one", "FSDP2")
def test_a_model_whose_layers_are_sharded_one_by_one(run_ranks: RunRanks) -> None:
    for found in run_ranks(2, under_fsdp):
        assert found["names"] == ["0.bias", "0.weight", "2.bias", "2.weight"]
        assert found["sent"] > 0
        assert found["resumed"]
        assert found["told"]["twice"].startswith("model: its gradients go through thinwire already")
        assert found["told"]["a start"].startswith("start_steps: FSDP2's exchange has no such")
        assert found["told"]["no parameters"].startswith("module: it has no parameters of its own")
        torch.testing.assert_close(found["exact"], alone(3))


def discarding_under_fsdp(rank: int, world: int, looks: bool) -> dict[str, Any]:
    """Every second step the script looks at gradients of other samples, and does not apply them."""
    model, state = sharded("sign")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(5):
        if looks and step % 2:
            inputs = torch.randn(6, 20, generator=torch.Generator().manual_seed(99 + step))
            model(inputs).square().mean().backward()
            state.discard()
            optimizer.zero_grad()
        train(model, optimizer, rank, world, range(step, step + 1))
    carried = [entry["residual"].clone() for entry in state.state_dict()["state"].values()]
    return {"model": whole(model), "carried": carried}


@pytest.mark.support("a backward that is discarded", "FSDP2")
def test_what_is_discarded_under_fsdp_leaves_nothing_behind(run_ranks: RunRanks) -> None:
    looked, plain = (run_ranks(2, discarding_under_fsdp, looks) for looks in (True, False))
    for found, expected in zip(looked, plain, strict=True):
        assert torch.equal(found["model"], expected["model"])
        assert all(map(torch.equal, found["carried"], expected["carried"]))
