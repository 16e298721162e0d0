"""Small models and data for optimiser tests."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.rounding import nudge
from thinwire import OneBitSGD


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 4)
    )


def minibatch(step: int, size: int = 48) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(size, 20, generator=generator)
    targets = (inputs[:, :4] + inputs[:, 4:8]).argmax(dim=1)
    return inputs, targets


def share(batch: tuple[Tensor, Tensor], rank: int, world: int) -> tuple[Tensor, Tensor]:
    """Deliberately uneven: worker 0 gets the most, the last may get little."""
    size = len(batch[0])
    bounds = [round(size * (k / world) ** 0.6) for k in range(world + 1)]
    part = slice(bounds[rank], bounds[rank + 1])
    return batch[0][part], batch[1][part]


def train_step(model: nn.Module, optimizer: OneBitSGD, step: int, rank: int, world: int) -> None:
    """One step of a user's loop."""
    batch = minibatch(step)
    if optimizer.phase == "serial":
        inputs, targets = batch if rank == 0 else (batch[0][:0], batch[1][:0])
    else:
        inputs, targets = share(batch, rank, world)
    optimizer.zero_grad()
    optimizer.samples = len(inputs)
    if len(inputs):
        F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1).float() for p in model.parameters()])


def full_loss(model: nn.Module) -> float:
    with torch.no_grad():
        inputs, targets = minibatch(10**6, 2000)
        return F.cross_entropy(model(inputs), targets).item()


def train(
    rank: int, world: int, steps: int, options: dict[str, Any], nudged: int = 0, units: int = 1
) -> dict[str, Any]:
    """A whole run on one rank; from some units in the last place away if ``nudged`` is not 0."""
    model = network()
    if nudged:
        nudge(model.parameters(), nudged, units)
    optimizer = OneBitSGD(model.named_parameters(), **options)
    for step in range(steps):
        train_step(model, optimizer, step, rank, world)
    return {
        "parameters": flat(model),
        "loss": full_loss(model),
        "traffic": optimizer.ledger.state_dict(),
        "bytes": optimizer.ledger.total().bytes,
    }


def serial(samples: int) -> dict[str, Any]:
    """The options of a serial start of so many samples."""
    return {"start": "serial", "start_samples": samples}
