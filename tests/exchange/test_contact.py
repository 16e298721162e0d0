"""Contact that breaks off is told in plain words, with what to look for."""

from datetime import timedelta
from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import thinwire
from tests.conftest import RunRanks
from tests.optim.oracle import batch, perceptron
from thinwire import OneBitSGD, OwnerOptimizer
from thinwire.exchange import ContactLostError

SOON = timedelta(seconds=3)
UNEVEN = "an uneven number of steps"
PLAIN = r"the exchange with another worker broke off.* takes the same number of steps"


def one_step_fewer(rank: int, world: int, front: str) -> str:
    """Worker 1 ends after two steps, and worker 0 goes on."""
    model: Any = perceptron(0, 20, 30, 4)
    optimizer: Any = None
    if front == "OneBitSGD":
        optimizer = OneBitSGD(model.named_parameters(), lr=0.1, timeout=SOON)
    if front == "OwnerOptimizer":
        optimizer = OwnerOptimizer(torch.optim.AdamW, model.named_parameters(), timeout=SOON)
    if front == "DDP hook":
        model = DistributedDataParallel(model)
        optimizer = thinwire.compress(model, timeout=SOON)

    def step(number: int) -> None:
        model(batch(optimizer, number, rank, world)).square().mean().backward()
        if front != "DDP hook":
            optimizer.step()
            optimizer.zero_grad()

    for number in range(2):
        step(number)
    if rank == 1:
        return ""
    with pytest.raises(RuntimeError, match=PLAIN) as told:
        step(2)
    assert front == "DDP hook" or isinstance(told.value, ContactLostError)
    return str(told.value)


@pytest.mark.parametrize(
    "front",
    [
        pytest.param(front, marks=pytest.mark.support(UNEVEN, front, refused=True))
        for front in ("OneBitSGD", "OwnerOptimizer", "DDP hook")
    ],
)
def test_a_worker_that_takes_fewer_steps(run_ranks: RunRanks, front: str) -> None:
    told, _ = run_ranks(2, one_step_fewer, front)
    assert told
