"""``clip_norm``: what ``clip_grad_norm_`` does after DistributedDataParallel's averaging."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.optim.oracle import batch, landing, perceptron, values
from thinwire import OneBitSGD, OwnerOptimizer, simulate
from thinwire.exchange import DifferentWorkersError

LIMIT = 0.2
MANY = {"code": "float32", "bucket_mb": 0.001, "clip_norm": LIMIT}
FRONTS = ("OneBitSGD", "OwnerOptimizer")
SGD = {"lr": 0.5, "momentum": 0.9}


def sgd(model: nn.Module, **options: Any) -> OneBitSGD:
    return OneBitSGD(model.named_parameters(), **SGD, **{**MANY, **options})


def owner(model: nn.Module) -> OwnerOptimizer:
    return OwnerOptimizer(torch.optim.SGD, model.named_parameters(), **SGD, **MANY)


WAYS: dict[str, Any] = {
    "at once": sgd,
    "double-buffered": lambda m: landing(sgd(m, double_buffer=True)),
    "serial start": lambda m: sgd(m, start="serial", start_steps=3),
    "OwnerOptimizer": owner,
}


def train(rank: int, world: int, way: str) -> tuple[Tensor, list[float | None]]:
    model = perceptron(0, 20, 30, 4)
    optimizer = WAYS[way](model)
    norms = []
    for step in range(6):
        optimizer.zero_grad()
        (3 * model(batch(optimizer, step, rank, world)).square().mean()).backward()
        optimizer.step()
        norms.append(optimizer.last_step.gradient_norm)
    return values([model]), norms


def clipped() -> tuple[Tensor, list[float]]:
    model = perceptron(0, 20, 30, 4)
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    norms = []
    for step in range(6):
        optimizer.zero_grad()
        (3 * model(batch(None, step, 0, 1)).square().mean()).backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), LIMIT)))
        optimizer.step()
    return values([model]), norms


@pytest.mark.support("clipping by the norm of the whole gradient (clip_norm)", *FRONTS)
@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_torchs(way: str, world: int) -> None:
    right, norms = clipped()
    assert max(norms) > 2 * LIMIT
    for found, told in simulate(world, train, way):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
        silent = 3 if way == "serial start" else 0
        assert told == [None] * silent + [pytest.approx(norm, rel=1e-4) for norm in norms[silent:]]


def test_what_is_carried_is_not_clipped() -> None:
    """Residuals are of what was computed; the limit acts on what has been summed."""

    def work(rank: int, world: int, limit: float | None) -> list[Tensor]:
        model = perceptron(0, 20, 30, 4)
        optimizer = sgd(model, code="sign", clip_norm=limit)
        model(batch(optimizer, 0, rank, world)).square().mean().backward()
        optimizer.step()
        return [entry["residual"].clone() for entry in optimizer.state_dict()["state"].values()]

    for limited, free in zip(simulate(2, work, 1e-3), simulate(2, work, None), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(limited, free, strict=True))


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)])
def test_a_limit_that_is_none(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="clip_norm: expected"):
        sgd(perceptron(0, 2, 2), clip_norm=limit)


def test_limits_that_differ_are_refused() -> None:
    def work(rank: int, world: int) -> None:
        with pytest.raises(DifferentWorkersError, match="clip_norm is not the same"):
            sgd(perceptron(0, 2, 2), clip_norm=1 + rank)

    simulate(2, work)
