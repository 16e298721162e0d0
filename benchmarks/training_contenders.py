"""Who competes in the training benchmark: the same script with the exchange swapped.

A contender makes, of a bare network, something that takes a step on a global minibatch
(``Trainer``). The settings of each are chosen from a grid of four points, the same learning rates
and momenta for all that take minibatches (``GRIDS``); the number of first steps in float32
(``START``) is the same for all that have such a thing. Hessian-free methods have a grid of four
points of their own (``NEWTON_GRID``) and no minibatches.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LinearLR

import thinwire
from benchmarks.training_tasks import Task
from thinwire.data import shard

START = 20  # steps
SEEDS = (0, 1, 2)
NEWTON_MOST = 16  # outer iterations after which a run that has not reached the target is given up
NEWTON_TUNE = 3  # outer iterations of a run of the grid

Settings = dict[str, float]
"""One point of a grid. "momentum" is beta1 where AdamW trains."""

GRIDS: dict[str, list[Settings]] = {
    "mnist": [
        {"lr": lr, "momentum": momentum} for lr in (0.0005, 0.001) for momentum in (0.5, 0.9)
    ],
    "transformer": [
        {"lr": lr, "momentum": momentum} for lr in (0.006, 0.012) for momentum in (0.5, 0.9)
    ],
    "families": [
        {"lr": lr, "momentum": momentum}
        for lr, momentum in ((0.03, 0.9), (0.1, 0.9), (0.3, 0.5), (1.0, 0.5))
    ],
}
NEWTON_GRID: list[Settings] = [
    {"damping": damping, "batch": batch} for damping in (0.03, 0.1) for batch in (4096, 8192)
]


def words(settings: Settings) -> str:
    """A point as tables and keys have it.

    >>> words({"lr": 0.1, "momentum": 0.9})
    'lr 0.1, momentum 0.9'
    """
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


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


Factory = Callable[[nn.Module, Task, Settings, int], Trainer]


def torch_optimizer(task: Task, parameters: Any, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser of everyone whose replicas update themselves."""
    if task.adam:
        betas = (settings["momentum"], 0.999)
        return torch.optim.AdamW(parameters, lr=settings["lr"], betas=betas, weight_decay=0.0)
    return torch.optim.SGD(parameters, lr=settings["lr"], momentum=settings["momentum"])


def schedule(optimizer: Any, task: Task) -> LinearLR:
    """The learning rate of everyone who has one: from the grid's to 0, in a straight line."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=task.goal.most_steps)


class DdpTrainer:
    """DistributedDataParallel with some hook, or none."""

    def __init__(
        self, ddp: DistributedDataParallel, task: Task, settings: Settings, start: int
    ) -> None:
        self._ddp, self._task, self._left = ddp, task, start
        self._optimizer = torch_optimizer(task, ddp.parameters(), settings)
        self._schedule = schedule(self._optimizer, task)

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
        self._schedule.step()
        self._left -= 1

    def close(self) -> None:
        """See ``Trainer``."""


class OwnerTrainer:
    """The library's optimisers, which exchange gradients themselves."""

    def __init__(self, model: nn.Module, task: Task, settings: Settings, start: int) -> None:
        self._model, self._task = model, task
        world = dist.get_world_size()
        common: dict[str, Any] = {"cold_start": start * world, "cold_start_mode": "dense"}
        if task.adam:
            betas = (settings["momentum"], 0.999)
            self.optimizer: Any = thinwire.OwnerOptimizer(
                torch.optim.AdamW,
                model.named_parameters(),
                lr=settings["lr"],
                betas=betas,
                weight_decay=0.0,
                **common,
            )
        else:
            self.optimizer = thinwire.OneBitSGD(
                model.named_parameters(), lr=settings["lr"], momentum=settings["momentum"], **common
            )
        self._schedule = schedule(self.optimizer, task)

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
        self._schedule.step()

    def close(self) -> None:
        """See ``Trainer``."""
        self.optimizer.close()


def dense(model: nn.Module, task: Task, settings: Settings, start: int) -> Trainer:
    """DDP as it is."""
    return DdpTrainer(DistributedDataParallel(model), task, settings, 0)


def fp16(model: nn.Module, task: Task, settings: Settings, start: int) -> Trainer:
    """PyTorch's fp16 hook."""
    ddp = DistributedDataParallel(model)
    ddp.register_comm_hook(None, fp16_compress_hook)
    return DdpTrainer(ddp, task, settings, 0)


def power_sgd(rank: int) -> Factory:
    """PyTorch's PowerSGD hook, in one bucket because on gloo it survives no other way."""

    def make(model: nn.Module, task: Task, settings: Settings, start: int) -> Trainer:
        ddp = DistributedDataParallel(model, bucket_cap_mb=10_000)
        state = PowerSGDState(
            None, matrix_approximation_rank=rank, start_powerSGD_iter=max(start, 2)
        )
        ddp.register_comm_hook(state, powerSGD_hook)
        return DdpTrainer(ddp, task, settings, max(start, 2))

    return make


def hook(bits: int) -> Factory:
    """The library's hook."""

    def make(model: nn.Module, task: Task, settings: Settings, start: int) -> Trainer:
        ddp = DistributedDataParallel(model)
        state = thinwire.OneBitState(cold_start=start, bits=bits)
        ddp.register_comm_hook(state, thinwire.onebit_hook)
        return DdpTrainer(ddp, task, settings, start)

    return make


class NewtonTrainer:
    """Hessian-free optimisation: a step is an outer iteration, over all training samples."""

    exact = False

    def __init__(
        self, model: nn.Module, task: Task, settings: Settings, method: str, curvature: str
    ) -> None:
        self._optimizer = thinwire.HessianFree(
            model.parameters(),
            method=method,  # type: ignore[arg-type]
            curvature=curvature,  # type: ignore[arg-type]
            damping=settings["damping"],
            curvature_batch=int(settings["batch"]),
            seed=task.seed,
        )
        assert task.samples is not None, task.name
        self._objective = thinwire.Objective(model, F.cross_entropy, task.samples)

    def step(self, minibatch: Tensor) -> None:
        """See ``Trainer``; the minibatch is not used."""
        self._optimizer.step(self._objective)

    def close(self) -> None:
        """See ``Trainer``."""


def newton(method: str, curvature: str) -> Factory:
    """The library's second family, as its recipes have it."""

    def make(model: nn.Module, task: Task, settings: Settings, start: int) -> Trainer:
        return NewtonTrainer(model, task, settings, method, curvature)

    return make


# To add a contender, write a Trainer whose ``step`` is one update, and enter it here and in
# ``ENTRIES``. One whose steps do not all take the same time and bytes goes into ``NEWTON``: it is
# then run to the target on every wire instead of being computed.
CONTENDERS: dict[str, Factory] = {
    "dense": dense,
    "fp16": fp16,
    "PowerSGD rank 1": power_sgd(1),
    "PowerSGD rank 4": power_sgd(4),
    "thinwire hook": hook(1),
    "thinwire hook, 4 bits": hook(4),
    "thinwire optimiser": OwnerTrainer,
    "Hessian-free, Gauss-Newton": newton("gauss-newton", "replicated"),
    "Hessian-free, Bi-CG-STAB": newton("bicgstab", "sharded"),
}
NEWTON = {name for name in CONTENDERS if name.startswith("Hessian-free")}
_ONE_BIT = ["thinwire hook", "thinwire optimiser"]
ENTRIES: dict[str, list[str]] = {
    "mnist": ["dense", "fp16", "PowerSGD rank 4", *_ONE_BIT, "thinwire hook, 4 bits"],
    "transformer": [name for name in CONTENDERS if name not in NEWTON],
    "families": ["dense", "PowerSGD rank 4", *_ONE_BIT, *sorted(NEWTON, reverse=True)],
}
"""Who takes part in which task. Four bits are for Adam; Hessian-free needs a small network here."""


def grid(task: str, contender: str) -> list[Settings]:
    """The points a contender is tried at."""
    return NEWTON_GRID if contender in NEWTON else GRIDS[task]
