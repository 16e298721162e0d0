"""Who competes in the training benchmark: the same script with the exchange swapped.

A contender makes, of a bare network, something that takes a step on a global minibatch
(``Trainer``). Its settings are chosen in two rounds: the best of four points, which are the same
learning rates and momenta for all that train by the task's own optimiser (``GRIDS``), and then the
best of at most three changes of what only it has, such as the length of its start (``Contender``).
Hessian-free methods have four points of their own (``NEWTON_GRID``) and no minibatches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from benchmarks.training.peers import (
    ChosenOfEach4096,
    DeMo,
    LocalRounds,
    Mean,
    in_8_bits,
    in_float32,
)
from benchmarks.training.tasks import Task
from thinwire.data import shard

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
    "transformer": _grid(SGD, (0.003, 0.5), (0.003, 0.9), (0.006, 0.5), (0.006, 0.9)),
    "brown": _grid(SGD, (0.001, 0.5), (0.001, 0.9), (0.002, 0.5), (0.002, 0.9)),
    "fashion": _grid(SGD, (0.05, 0.9), (0.1, 0.9), (0.2, 0.5), (0.4, 0.5)),
    "families": _grid(SGD, (0.03, 0.9), (0.1, 0.9), (0.3, 0.5), (1.0, 0.5)),
}
DEMO_GRID = _grid(("lr", "decay"), (0.001, 0.9), (0.003, 0.9), (0.001, 0.99), (0.003, 0.99))
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
        starting: whether the step to come belongs to a start that is not repeated.
        every: steps after which what is sent repeats; the task is scored at multiples of it.
    """

    starting: bool
    every: int

    def step(self, minibatch: Tensor) -> None:
        """Update the network once, from a global minibatch that every worker is given."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


Named = list[tuple[str, nn.Parameter]]
Factory = Callable[[nn.Module, Task, Point], Trainer]
"""(network, task, settings) -> trainer."""


@dataclass(frozen=True)
class Contender:
    """One that takes part.

    Attributes:
        make: makes its trainer.
        own: what only it has, and with which values it is tried on the grid.
        changes: what of that is tried next at the best point of the grid, one after another.
        grid: its points where it does not train by the task's own optimiser.
    """

    make: Factory
    own: Point
    changes: tuple[Point, ...] = ()
    grid: list[Point] | None = None


class SgdTrainer:
    """Steps of an optimiser on minibatches, the learning rate falling to 0 in a straight line."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: Any,
        task: Task,
        start: float = 0,
        every: float = 1,
        inner: Sequence[torch.optim.Optimizer] = (),
    ) -> None:
        self._module, self._optimizer, self._task = module, optimizer, task
        self._left, self.every = int(start), int(every)
        steps = task.goal.most_steps
        self._schedules = [LinearLR(o, 1.0, 0.0, total_iters=steps) for o in inner or [optimizer]]

    @property
    def starting(self) -> bool:
        """See ``Trainer``."""
        return self._left > 0

    def step(self, minibatch: Tensor) -> None:
        """See ``Trainer``."""
        self._optimizer.zero_grad()
        share = shard(minibatch, dist.get_rank(), dist.get_world_size())
        self._task.loss(self._module, share).backward()
        self._optimizer.step()
        for schedule in self._schedules:
            schedule.step()
        self._left -= 1

    def close(self) -> None:
        """See ``Trainer``."""
        if hasattr(self._optimizer, "close"):
            self._optimizer.close()


class NewtonTrainer:
    """Hessian-free optimisation: a step is an outer iteration, over all training samples."""

    starting, every = False, 1

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


def optimizer_of(task: Task, model: nn.Module, point: Point) -> torch.optim.Optimizer:
    """Return the task's optimiser: AdamW, or SGD with momentum."""
    if task.adam:
        betas = (point["momentum"], 0.999)
        return torch.optim.AdamW(model.parameters(), point["lr"], betas, weight_decay=0.0)
    return torch.optim.SGD(model.parameters(), point["lr"], point["momentum"])


def dense(model: nn.Module, task: Task, point: Point) -> Trainer:
    """Return DDP as it is."""
    ddp = DistributedDataParallel(model)
    return SgdTrainer(ddp, optimizer_of(task, ddp, point), task)


def fp16(model: nn.Module, task: Task, point: Point) -> Trainer:
    """Return PyTorch's fp16 hook."""
    ddp = DistributedDataParallel(model)
    ddp.register_comm_hook(None, fp16_compress_hook)
    return SgdTrainer(ddp, optimizer_of(task, ddp, point), task)


def power_sgd(rank: int) -> Factory:
    """Return PyTorch's PowerSGD hook, in one bucket because on gloo it survives no other way."""

    def make(model: nn.Module, task: Task, point: Point) -> Trainer:
        ddp, start = DistributedDataParallel(model, bucket_cap_mb=10_000), int(point["start"])
        state = PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=start)
        ddp.register_comm_hook(state, powerSGD_hook)
        return SgdTrainer(ddp, optimizer_of(task, ddp, point), task, start)

    return make


def demo(model: nn.Module, task: Task, point: Point) -> Trainer:
    """Return decoupled momentum."""
    optimizer = DeMo([*model.parameters()], point["lr"], point["decay"], int(point["keep"]))
    return SgdTrainer(model, optimizer, task)


def local_rounds(mean: Callable[[Point], Mean]) -> Factory:
    """Return local steps as others have them."""

    def make(model: nn.Module, task: Task, point: Point) -> Trainer:
        inner, every = optimizer_of(task, model, point), int(point["every"])
        rounds = LocalRounds(inner, every, mean(point), point["outer"], point["outer momentum"])
        return SgdTrainer(model, rounds, task, 0, every, [inner])

    return make


def hook(**options: Any) -> Factory:
    """Return the library's hook, after a start of 4 bits where there is one."""

    def make(model: nn.Module, task: Task, point: Point) -> Trainer:
        ddp, start = DistributedDataParallel(model), int(point.get("start", 0))
        thinwire.compress(ddp, start="4-bit", start_steps=start, **options)
        return SgdTrainer(ddp, optimizer_of(task, ddp, point), task, start)

    return make


def owner(model: nn.Module, task: Task, point: Point) -> Trainer:
    """Return the library's optimisers, which exchange gradients themselves."""
    common: dict[str, Any] = {"lr": point["lr"], "start": "4-bit"}
    common |= {"start_steps": int(point["start"])}
    optimizer: Any
    if task.adam:
        common |= {"betas": (point["momentum"], 0.999), "weight_decay": 0.0}
        optimizer = thinwire.OwnerOptimizer(torch.optim.AdamW, model.named_parameters(), **common)
    else:
        common |= {"momentum": point["momentum"]}
        optimizer = thinwire.OneBitSGD(model.named_parameters(), **common)
    return SgdTrainer(model, optimizer, task, point["start"])


def matrices_and_rest(model: nn.Module) -> tuple[Named, Named]:
    """Return the matrices of the layers, which Muon is made for, and all other parameters."""
    named = list(model.named_parameters())
    matrices = [(name, p) for name, p in named if p.ndim == 2 and name.startswith("layers")]
    of_muon = {name for name, _ in matrices}
    return matrices, [(name, p) for name, p in named if name not in of_muon]


def muon_and_adamw(model: nn.Module, point: Point) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers, and AdamW for the rest."""
    matrices, rest = ([p for _, p in part] for part in matrices_and_rest(model))
    momentum = point["momentum"]
    adamw = torch.optim.AdamW(rest, point["lr"], (momentum, 0.999), weight_decay=0.0)
    muon = torch.optim.Muon(matrices, point["muon"], momentum=momentum, weight_decay=0.0)
    return [muon, adamw]


class Several:
    """Several optimisers as one."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers

    def zero_grad(self) -> None:
        """Clear the gradients of all."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Step all."""
        for optimizer in self._optimizers:
            optimizer.step()


def dense_muon(model: nn.Module, task: Task, point: Point) -> Trainer:
    """Return DDP with Muon on every worker."""
    optimizers = muon_and_adamw(model, point)
    return SgdTrainer(DistributedDataParallel(model), Several(optimizers), task, inner=optimizers)


def owner_muon(model: nn.Module, task: Task, point: Point) -> Trainer:
    """Return Muon for the matrices of the layers at their owners, and AdamW for the rest."""
    matrices, rest = matrices_and_rest(model)
    own = {"lr": point["muon"], "momentum": point["momentum"], "weight_decay": 0.0}
    optimizer = thinwire.OwnerOptimizer(
        torch.optim.AdamW,
        [{"params": matrices, "optimizer": torch.optim.Muon, **own}, {"params": rest}],
        lr=point["lr"],
        betas=(point["momentum"], 0.999),
        weight_decay=0.0,
        start="4-bit",
        start_steps=int(point["start"]),
    )
    return SgdTrainer(model, optimizer, task, point["start"])


def local(code: str, *, muon: bool = False) -> Factory:
    """Return the library's local steps, in this code from the first step on."""

    def make(model: nn.Module, task: Task, point: Point) -> Trainer:
        inner = muon_and_adamw(model, point) if muon else [optimizer_of(task, model, point)]
        start, every = int(point.get("start", 0)), int(point["every"])
        optimizer = thinwire.LocalSteps(
            inner,
            model.named_parameters(),
            every=every,
            momentum=point.get("outer momentum", 0.5),
            buffers=model.named_buffers(),
            code=code,
            start=code,
            start_steps=start,
        )
        return SgdTrainer(model, optimizer, task, start, every, inner)

    return make


def newton(method: str, curvature: str) -> Factory:
    """Return the library's second family, as its recipes have it."""

    def make(model: nn.Module, task: Task, point: Point) -> Trainer:
        return NewtonTrainer(model, task, point, method=method, curvature=curvature)

    return make


def _power_sgd(rank: int) -> Contender:
    return Contender(power_sgd(rank), {"start": 10}, ({"start": 2}, {"start": 20}))


def _newton(method: str, curvature: str) -> Contender:
    return Contender(newton(method, curvature), {}, grid=NEWTON_GRID)


_PUBLISHED = {"every": 10, "outer": 0.7, "outer momentum": 0.9}
_OUTER: tuple[Point, ...] = ({"outer": 1, "outer momentum": 0.5}, {"every": 20}, {"every": 5})
_SPARSE = {"every": 10, "outer": 1, "outer momentum": 0, "keep": 64}

# To add a contender, write a Trainer whose ``step`` is one update, and enter it here and in
# ``ENTRIES``. One whose steps do not all take the same time and bytes goes into ``NEWTON``: it is
# then run to the target on every wire instead of being computed.
CONTENDERS: dict[str, Contender] = {
    "dense": Contender(dense, {}),
    "dense, Muon": Contender(dense_muon, {"muon": 0.02}, ({"muon": 0.01}, {"muon": 0.04})),
    "fp16": Contender(fp16, {}),
    "PowerSGD rank 1": _power_sgd(1),
    "PowerSGD rank 2": _power_sgd(2),
    "PowerSGD rank 4": _power_sgd(4),
    "PowerSGD rank 8": _power_sgd(8),
    "DeMo": Contender(demo, {"keep": 32}, ({"keep": 8}, {"keep": 2}), DEMO_GRID),
    "DiLoCo": Contender(local_rounds(lambda _: in_float32), _PUBLISHED, _OUTER),
    "DiLoCo, 8 bits": Contender(local_rounds(lambda _: in_8_bits), _PUBLISHED, _OUTER),
    "SparseLoCo": Contender(
        local_rounds(lambda point: ChosenOfEach4096(int(point["keep"]))),
        _SPARSE,
        ({"keep": 128}, {"every": 20}, {"every": 5}),
    ),
    "thinwire hook": Contender(hook(), {}),
    "thinwire hook, 1 bit": Contender(hook(code="sign"), {"start": 0}, ({"start": 20},)),
    "thinwire optimiser": Contender(owner, {"start": 0}, ({"start": 20}, {"start": 40})),
    "thinwire optimiser, Muon": Contender(
        owner_muon, {"start": 20, "muon": 0.02}, ({"muon": 0.01}, {"muon": 0.04}, {"start": 0})
    ),
    "thinwire local steps": Contender(
        local("sign"), {"every": 10, "start": 20}, ({"start": 0}, {"every": 20}, {"every": 5})
    ),
    "thinwire local steps, 4 bits": Contender(
        local("4-bit"), {"every": 10}, ({"every": 20}, {"every": 5}, {"outer momentum": 0.3})
    ),
    "thinwire local steps, 4 bits, Muon": Contender(
        local("4-bit", muon=True),
        {"every": 10, "muon": 0.02},
        ({"muon": 0.04}, {"every": 20}, {"every": 5}),
    ),
    "Hessian-free, Gauss-Newton": _newton("gauss-newton", "replicated"),
    "Hessian-free, Bi-CG-STAB": _newton("bicgstab", "sharded"),
}
UNCHANGED = {"thinwire hook": "dense"}
"""Who has no settings of its own: the drop-in is to serve a script as it was tuned for DDP."""
NEWTON = {name for name in CONTENDERS if name.startswith("Hessian-free")}
_LAYERS = {name for name in CONTENDERS if name.endswith("Muon")}
_ALL = [name for name in CONTENDERS if name not in NEWTON]
_ANY = [name for name in _ALL if name not in _LAYERS]
_OURS = [name for name in _ANY if name.startswith("thinwire")]
_FEW = ["dense", "PowerSGD rank 4", "DiLoCo, 8 bits", "SparseLoCo", *_OURS]
ENTRIES: dict[str, list[str]] = {
    "mnist": _ANY,
    "transformer": _ALL,
    "brown": [*_FEW, *sorted(_LAYERS)],
    "fashion": _FEW,
    "families": ["dense", "PowerSGD rank 4", *_OURS, *sorted(NEWTON, reverse=True)],
}
"""Who takes part in which task: Muon where there are layers, Hessian-free in a small network."""


def grid(task: str, contender: str) -> list[Point]:
    """Return the points a contender is tried at first."""
    entry = CONTENDERS[contender]
    return [point | entry.own for point in entry.grid or GRIDS[task]]


def changed(contender: str, best: Point) -> list[Point]:
    """Return the points that are tried next, where ``best`` is the best so far."""
    return [best | change for change in CONTENDERS[contender].changes]
