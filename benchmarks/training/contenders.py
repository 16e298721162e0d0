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
from benchmarks.training.tasks import Task
from thinwire.data import shard

START = 20  # steps
SEEDS = (0, 1, 2)
NEWTON_MOST = 16  # outer iterations after which a run that has not reached the target is given up
NEWTON_TUNE = 3  # outer iterations of a run of the grid

Point = dict[str, float]
"""One point of a grid. "momentum" is beta1 where AdamW trains."""


def _grid(names: tuple[str, str], *points: tuple[float, float]) -> list[Point]:
    return [dict(zip(names, point, strict=True)) for point in points]


SGD = ("lr", "momentum")
GRIDS: dict[str, list[Point]] = {
    "mnist": _grid(SGD, (0.0005, 0.5), (0.0005, 0.9), (0.001, 0.5), (0.001, 0.9)),
    "transformer": _grid(SGD, (0.006, 0.5), (0.006, 0.9), (0.012, 0.5), (0.012, 0.9)),
    "families": _grid(SGD, (0.03, 0.9), (0.1, 0.9), (0.3, 0.5), (1.0, 0.5)),
}
NEWTON_GRID = _grid(("damping", "batch"), (0.03, 4096), (0.03, 8192), (0.1, 4096), (0.1, 8192))


def words(point: Point) -> str:
    """Return a point as tables and keys have it.

    >>> words({"lr": 0.1, "momentum": 0.9})
    'lr 0.1, momentum 0.9'
    """
    return ", ".join(f"{name} {value:g}" for name, value in point.items())


class Trainer(Protocol):
    """What every contender becomes.

    Attributes:
        exact: whether the step to come travels in float32 (a start that is not repeated).
    """

    exact: bool

    def step(self, minibatch: Tensor) -> None:
        """Update the network once, from a global minibatch that every worker is given."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


Factory = Callable[[nn.Module, Task, Point, int], Trainer]
"""(network, task, point of the grid, first steps in float32) -> trainer."""


class SgdTrainer:
    """Steps of an optimiser on minibatches, the learning rate falling to 0 in a straight line."""

    def __init__(self, module: nn.Module, optimizer: Any, task: Task, start: int) -> None:
        self._module, self._optimizer, self._task, self._left = module, optimizer, task, start
        self._schedule = LinearLR(optimizer, 1.0, 0.0, total_iters=task.goal.most_steps)

    @property
    def exact(self) -> bool:
        """See ``Trainer``."""
        return self._left > 0

    def step(self, minibatch: Tensor) -> None:
        """See ``Trainer``."""
        self._optimizer.zero_grad()
        share = shard(minibatch, dist.get_rank(), dist.get_world_size())
        self._task.loss(self._module, share).backward()
        self._optimizer.step()
        self._schedule.step()
        self._left -= 1

    def close(self) -> None:
        """See ``Trainer``."""
        if hasattr(self._optimizer, "close"):
            self._optimizer.close()


class NewtonTrainer:
    """Hessian-free optimisation: a step is an outer iteration, over all training samples."""

    exact = False

    def __init__(self, model: nn.Module, task: Task, point: Point, **options: Any) -> None:
        options |= {"damping": point["damping"], "curvature_batch": int(point["batch"])}
        self._optimizer = thinwire.HessianFree(model.parameters(), seed=task.seed, **options)
        assert task.samples is not None, task.name
        self._objective = thinwire.Objective(model, F.cross_entropy, task.samples)

    def step(self, minibatch: Tensor) -> None:
        """See ``Trainer``; the minibatch is not used."""
        self._optimizer.step(self._objective)

    def close(self) -> None:
        """See ``Trainer``."""


def ddp_trainer(ddp: DistributedDataParallel, task: Task, point: Point, start: int) -> Trainer:
    """Return DDP with the optimiser of everyone whose replicas update themselves."""
    optimizer: torch.optim.Optimizer
    if task.adam:
        betas = (point["momentum"], 0.999)
        optimizer = torch.optim.AdamW(ddp.parameters(), point["lr"], betas, weight_decay=0.0)
    else:
        optimizer = torch.optim.SGD(ddp.parameters(), **point)
    return SgdTrainer(ddp, optimizer, task, start)


def dense(model: nn.Module, task: Task, point: Point, start: int) -> Trainer:
    """Return DDP as it is."""
    return ddp_trainer(DistributedDataParallel(model), task, point, 0)


def fp16(model: nn.Module, task: Task, point: Point, start: int) -> Trainer:
    """Return PyTorch's fp16 hook."""
    ddp = DistributedDataParallel(model)
    ddp.register_comm_hook(None, fp16_compress_hook)
    return ddp_trainer(ddp, task, point, 0)


def power_sgd(rank: int) -> Factory:
    """Return PyTorch's PowerSGD hook, in one bucket because on gloo it survives no other way."""

    def make(model: nn.Module, task: Task, point: Point, start: int) -> Trainer:
        ddp, start = DistributedDataParallel(model, bucket_cap_mb=10_000), max(start, 2)
        state = PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=start)
        ddp.register_comm_hook(state, powerSGD_hook)
        return ddp_trainer(ddp, task, point, start)

    return make


def hook(code: str) -> Factory:
    """Return the library's hook."""

    def make(model: nn.Module, task: Task, point: Point, start: int) -> Trainer:
        ddp = DistributedDataParallel(model)
        state = thinwire.OneBitState(start_steps=start, code=code)
        ddp.register_comm_hook(state, thinwire.onebit_hook)
        return ddp_trainer(ddp, task, point, start)

    return make


def owner(model: nn.Module, task: Task, point: Point, start: int) -> Trainer:
    """Return the library's optimisers, which exchange gradients themselves."""
    common: dict[str, Any] = {"start_steps": start}
    optimizer: Any
    if task.adam:
        common |= {"lr": point["lr"], "betas": (point["momentum"], 0.999), "weight_decay": 0.0}
        optimizer = thinwire.OwnerOptimizer(torch.optim.AdamW, model.named_parameters(), **common)
    else:
        optimizer = thinwire.OneBitSGD(model.named_parameters(), **point, **common)
    return SgdTrainer(model, optimizer, task, start)


def newton(method: str, curvature: str) -> Factory:
    """Return the library's second family, as its recipes have it."""

    def make(model: nn.Module, task: Task, point: Point, start: int) -> Trainer:
        return NewtonTrainer(model, task, point, method=method, curvature=curvature)

    return make


# To add a contender, write a Trainer whose ``step`` is one update, and enter it here and in
# ``ENTRIES``. One whose steps do not all take the same time and bytes goes into ``NEWTON``: it is
# then run to the target on every wire instead of being computed.
CONTENDERS: dict[str, Factory] = {
    "dense": dense,
    "fp16": fp16,
    "PowerSGD rank 1": power_sgd(1),
    "PowerSGD rank 4": power_sgd(4),
    "thinwire hook": hook("sign"),
    "thinwire hook, 4 bits": hook("4-bit"),
    "thinwire optimiser": owner,
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


def grid(task: str, contender: str) -> list[Point]:
    """Return the points a contender is tried at."""
    return NEWTON_GRID if contender in NEWTON else GRIDS[task]
