"""Who competes in the training benchmark: the same script with the exchange swapped.

A contender makes, of a bare network, something that takes a step on a global minibatch
(``Trainer``). The learning rate and momentum of each are chosen from the same grid, ``GRIDS``; the
number of first steps in float32 (``START``) is the same for all that have such a thing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

import thinwire
from benchmarks.training_tasks import Task
from thinwire.data import shard

START = 20  # steps
POWERSGD_RANK = 4


@dataclass(frozen=True)
class Rates:
    """One point of a grid; ``momentum`` is beta1 where AdamW trains."""

    lr: float
    momentum: float


GRIDS = {
    "mnist": [Rates(lr, m) for lr in (0.03, 0.1, 0.3) for m in (0.5, 0.9)],
    "transformer": [Rates(lr, m) for lr in (0.0015, 0.003, 0.006) for m in (0.5, 0.9)],
}


class Trainer(Protocol):
    """What every contender becomes.

    Attributes:
        exact: whether the step to come travels in float32 (a start that is not repeated).
    """

    exact: bool

    def step(self, minibatch: Tensor) -> None:
        """One update of the network, from a global minibatch that every worker is given."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


Factory = Callable[[nn.Module, Task, Rates, int], Trainer]


def torch_optimizer(task: Task, parameters: Any, rates: Rates) -> torch.optim.Optimizer:
    """The optimiser of everyone whose replicas update themselves."""
    if task.adam:
        betas = (rates.momentum, 0.999)
        return torch.optim.AdamW(parameters, lr=rates.lr, betas=betas, weight_decay=0.0)
    return torch.optim.SGD(parameters, lr=rates.lr, momentum=rates.momentum)


class DdpTrainer:
    """DistributedDataParallel with some hook, or none."""

    def __init__(self, ddp: DistributedDataParallel, task: Task, rates: Rates, start: int) -> None:
        self._ddp, self._task, self._left = ddp, task, start
        self._optimizer = torch_optimizer(task, ddp.parameters(), rates)

    @property
    def exact(self) -> bool:
        """See ``Trainer``."""
        return self._left > 0

    def step(self, minibatch: Tensor) -> None:
        """See ``Trainer``."""
        self._optimizer.zero_grad()
        share = shard(minibatch, dist.get_rank(), dist.get_world_size())
        self._task.loss(self._ddp, share).backward()
        self._optimizer.step()
        self._left -= 1

    def close(self) -> None:
        """See ``Trainer``."""


class OwnerTrainer:
    """The library's optimisers, which exchange gradients themselves."""

    def __init__(self, model: nn.Module, task: Task, rates: Rates, start: int) -> None:
        self._model, self._task = model, task
        world = dist.get_world_size()
        common: dict[str, Any] = {"cold_start": start * world, "cold_start_mode": "dense"}
        if task.adam:
            betas = (rates.momentum, 0.999)
            self.optimizer: Any = thinwire.OwnerOptimizer(
                torch.optim.AdamW,
                model.named_parameters(),
                lr=rates.lr,
                betas=betas,
                weight_decay=0.0,
                **common,
            )
        else:
            self.optimizer = thinwire.OneBitSGD(
                model.named_parameters(), lr=rates.lr, momentum=rates.momentum, **common
            )

    @property
    def exact(self) -> bool:
        """See ``Trainer``."""
        return self.optimizer.phase != "steady"

    def step(self, minibatch: Tensor) -> None:
        """See ``Trainer``."""
        self.optimizer.zero_grad()
        share = shard(minibatch, dist.get_rank(), dist.get_world_size())
        self._task.loss(self._model, share).backward()
        self.optimizer.step()

    def close(self) -> None:
        """See ``Trainer``."""
        self.optimizer.close()


def dense(model: nn.Module, task: Task, rates: Rates, start: int) -> Trainer:
    """DDP as it is."""
    return DdpTrainer(DistributedDataParallel(model), task, rates, 0)


def fp16(model: nn.Module, task: Task, rates: Rates, start: int) -> Trainer:
    """PyTorch's fp16 hook."""
    ddp = DistributedDataParallel(model)
    ddp.register_comm_hook(None, fp16_compress_hook)
    return DdpTrainer(ddp, task, rates, 0)


def power_sgd(model: nn.Module, task: Task, rates: Rates, start: int) -> Trainer:
    """PyTorch's PowerSGD hook, in one bucket because on gloo it survives no other way."""
    ddp = DistributedDataParallel(model, bucket_cap_mb=10_000)
    state = PowerSGDState(
        None, matrix_approximation_rank=POWERSGD_RANK, start_powerSGD_iter=max(start, 2)
    )
    ddp.register_comm_hook(state, powerSGD_hook)
    return DdpTrainer(ddp, task, rates, max(start, 2))


def hook(bits: int) -> Factory:
    """The library's hook."""

    def make(model: nn.Module, task: Task, rates: Rates, start: int) -> Trainer:
        ddp = DistributedDataParallel(model)
        state = thinwire.OneBitState(cold_start=start, bits=bits)
        ddp.register_comm_hook(state, thinwire.onebit_hook)
        return DdpTrainer(ddp, task, rates, start)

    return make


# To add a contender (Hessian-free, say), write a Trainer whose ``step`` is one update and enter it
# here; ``GRIDS`` gives it its rates. One whose steps do not all take the same time and bytes goes
# into ``DIRECT`` as well: it is then run to the target on every wire instead of being computed.
CONTENDERS: dict[str, Factory] = {
    "dense": dense,
    "fp16": fp16,
    f"PowerSGD rank {POWERSGD_RANK}": power_sgd,
    "thinwire hook": hook(1),
    "thinwire hook, 4 bits": hook(4),
    "thinwire optimiser": OwnerTrainer,
}
DIRECT: set[str] = set()
