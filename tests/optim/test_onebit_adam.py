import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import RunRanks
from tests.optim.problems import flat, full_loss, network, train_step
from tests.optim.test_onebit_sgd import train_with_torch
from thinwire import OneBitAdam, reshard

BUCKETS = {"bucket_mb": 0.005}


def train(rank: int, world: int, steps: int, options: dict[str, Any]) -> dict[str, Any]:
    model = network()
    optimizer = OneBitAdam(model.named_parameters(), **options, **BUCKETS)
    for step in range(steps):
        train_step(model, optimizer, step, rank, world)
    state = copy.deepcopy(optimizer.state_dict())
    return {"parameters": flat(model), "loss": full_loss(model), "state": state}


@pytest.mark.parametrize("world", [1, 3])
def test_the_cold_start_is_torch_adamw(run_ranks: RunRanks, world: int) -> None:
    own = {"lr": 0.01, "weight_decay": 0.1}
    expected = train_with_torch(torch.optim.AdamW, 15, **own)
    for result in run_ranks(world, train, 15, {**own, "cold_start": 10**9}):
        torch.testing.assert_close(result["parameters"], expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("world", [1, 3])
def test_exact_momentum_with_a_frozen_variance(run_ranks: RunRanks, world: int) -> None:
    """Through the float32 code the steady phase is the recurrence in one process."""
    model = network()
    parameters = list(model.parameters())
    m = [torch.zeros_like(p) for p in parameters]
    v = [torch.zeros_like(p) for p in parameters]

    class Recurrence:
        def __init__(self, params: Any) -> None:
            self.params, self.t = list(params), 0

        def zero_grad(self) -> None:
            for p in self.params:
                p.grad = None

        @torch.no_grad()
        def step(self) -> None:
            self.t += 1
            for i, p in enumerate(self.params):
                m[i] = 0.9 * m[i] + 0.1 * p.grad
                if self.t <= 5:
                    v[i] = 0.999 * v[i] + 0.001 * p.grad**2
                v_hat = v[i] / (1 - 0.999 ** min(self.t, 5))
                p -= 0.01 * (m[i] / (1 - 0.9**self.t)) / (v_hat.sqrt() + 1e-2)

    expected = train_with_torch(Recurrence, 15)
    # A large eps hides the floor, which the recurrence above does without.
    options = {"lr": 0.01, "eps": 1e-2, "cold_start": 5 * 48, "code": "float32"}
    for result in run_ranks(world, train, 15, options):
        torch.testing.assert_close(result["parameters"], expected, rtol=1e-2, atol=2e-3)


def test_one_bit_trains_at_strong_momentum(run_ranks: RunRanks) -> None:
    results = run_ranks(3, train, 80, {"lr": 0.01, "cold_start": 15 * 48})
    assert all(torch.equal(r["parameters"], results[0]["parameters"]) for r in results)
    assert results[0]["loss"] < 0.5 * full_loss(network())


def resume(rank: int, world: int) -> list[Tensor]:
    def make(seed: int) -> Any:
        model = network(seed)
        return model, OneBitAdam(model.named_parameters(), lr=0.01, cold_start=200, **BUCKETS)

    model, optimizer = make(0)
    saved: list[Any] = []
    for step in range(12):
        if step == 7:
            saved = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
        train_step(model, optimizer, step, rank, world)
    other, resumed = make(1)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for step in range(7, 12):
        train_step(other, resumed, step, rank, world)
    return [flat(model), flat(other)]


@pytest.mark.parametrize("world", [1, 2])
def test_resume_is_bit_identical(run_ranks: RunRanks, world: int) -> None:
    for straight, resumed in run_ranks(world, resume):
        assert torch.equal(straight, resumed)


def test_another_number_of_workers_keeps_moments_and_residuals(run_ranks: RunRanks) -> None:
    old = [r["state"] for r in run_ranks(3, train, 12, {"lr": 0.01, "cold_start": 200})]
    new = [reshard(old, rank, 2) for rank in range(2)]
    for i, entry in old[0]["state"].items():
        for state in new:
            assert torch.equal(state["state"][i]["shared_momentum"], entry["shared_momentum"])
        total = sum(state["state"][i]["residual"].double() for state in old)
        kept = sum(state["state"][i]["residual"].double() for state in new)
        torch.testing.assert_close(kept, total, rtol=1e-6, atol=1e-7)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="cold_start: expected >= 1, got 0"):
        OneBitAdam(network().parameters(), cold_start=0)
    with pytest.raises(ValueError, match="betas"):
        OneBitAdam(network().parameters(), betas=(1.0, 0.9), cold_start=1)
