"""OwnerOptimizer: torch's optimisers on stripes equal torch's optimisers on parameters."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import RunRanks
from tests.optim.problems import flat, full_loss, network, serial, train_step
from tests.optim.test_onebit_sgd import train_with_torch
from thinwire import OwnerOptimizer, reshard

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "Adam amsgrad": (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.01, "centered": True}),
    "NAdam": (torch.optim.NAdam, {"lr": 0.01}),
}
BUCKETS = {"bucket_mb": 0.005}


def train(rank: int, world: int, case: str, options: dict[str, Any], steps: int) -> dict[str, Any]:
    optimizer_class, own = CASES[case]
    model = network()
    optimizer = OwnerOptimizer(optimizer_class, model.named_parameters(), **own, **options)
    for step in range(steps):
        train_step(model, optimizer, step, rank, world)
    held = sum(t.numel() for bucket in optimizer._engine.buckets for t in bucket.state.values())
    return {"parameters": flat(model), "loss": full_loss(model), "state": held}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("world", [1, 3])
def test_float32_equals_torch(run_ranks: RunRanks, case: str, world: int) -> None:
    optimizer_class, own = CASES[case]
    expected = train_with_torch(optimizer_class, 15, **own)
    for result in run_ranks(world, train, case, {"code": "float32", **BUCKETS}, 15):
        torch.testing.assert_close(result["parameters"], expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("mode", ["serial", "float32"])
def test_cold_start_hands_the_state_over(run_ranks: RunRanks, mode: str) -> None:
    options = {"code": "float32", "start": mode, "start_samples": 240, **BUCKETS}
    optimizer_class, own = CASES["AdamW"]
    expected = train_with_torch(optimizer_class, 15, **own)
    for result in run_ranks(3, train, "AdamW", options, 15):
        torch.testing.assert_close(result["parameters"], expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("code", ["sign", ("sign", "4-bit"), "4-bit"])
def test_one_bit_trains_with_sharded_state(run_ranks: RunRanks, code: Any) -> None:
    results = run_ranks(3, train, "AdamW", {"code": code, **serial(480), **BUCKETS}, 60)
    assert all(torch.equal(r["parameters"], results[0]["parameters"]) for r in results)
    assert results[0]["loss"] < 0.5 * full_loss(network())
    assert sum(r["state"] for r in results) == 2 * len(results[0]["parameters"])
    assert max(r["state"] for r in results) < len(results[0]["parameters"])


def resume(rank: int, world: int) -> list[Tensor]:
    def make(seed: int) -> Any:
        model = network(seed)
        optimizer_class, own = CASES["AdamW"]
        return model, OwnerOptimizer(optimizer_class, model.named_parameters(), **own, **BUCKETS)

    model, optimizer = make(0)
    saved: list[Any] = []
    for step in range(12):
        if step == 6:
            saved = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
        train_step(model, optimizer, step, rank, world)
    other, resumed = make(1)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(reshard([saved[1]], 0, 1) if world == 1 else saved[1])
    for step in range(6, 12):
        train_step(other, resumed, step, rank, world)
    return [flat(model), flat(other)]


@pytest.mark.parametrize("world", [1, 2])
def test_resume_is_bit_identical(run_ranks: RunRanks, world: int) -> None:
    for straight, resumed in run_ranks(world, resume):
        assert torch.equal(straight, resumed)


def test_schedulers_reach_the_inner_optimiser() -> None:
    model = network()
    optimizer = OwnerOptimizer(torch.optim.SGD, model.parameters(), lr=0.1, code="float32")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.0)
    train_step(model, optimizer, 0, 0, 1)
    scheduler.step()
    before = flat(model)
    train_step(model, optimizer, 1, 0, 1)
    assert torch.equal(before, flat(model))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError, match=r"AdamW cannot run at the owner.*betta"):
        OwnerOptimizer(torch.optim.AdamW, network().parameters(), betta=0.9)
