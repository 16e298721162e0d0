"""What a run does, as typed fields; which of them one algorithm reads and the other does not."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Literal

from thinwire.data import DataFields
from thinwire.exchange import SERIAL
from thinwire.train.codes import words
from thinwire.train.fields import (
    DecayFields,
    ExchangeFields,
    HessianFreeFields,
    LocalFields,
    ModelFields,
    OptimizerFields,
    SelectionFields,
    check_values,
    expect_at_least,
)
from thinwire.train.tasks import check_task_name

Algorithm = Literal["sgd", "hessian-free"]

_READ_BY: dict[Algorithm, tuple[str, ...]] = {
    "sgd": (
        *("epochs", "minibatch", "log_every", "evaluate_every", "optimizer", "exchange"),
        *("local", "selection", "decay", "model_parallel"),
    ),
    "hessian-free": ("hessian_free",),
}
_METHODS = {
    "gauss-newton": "Hessian-free, Gauss-Newton",
    "bicgstab": "Hessian-free, Bi-CG-STAB",
    "hybrid": "Hessian-free, hybrid CG",
    "cg": "Hessian-free, CG",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    workers: int = 1
    """Worker processes to start here; under torchrun or Slurm theirs count."""
    model_parallel: int = 1
    """Workers that share one model, each holding a part of every layer; workers counts all."""
    out: Path | None = None
    """Run folder; runs/NAME by default."""
    algorithm: Algorithm = "sgd"
    """Small steps along exchanged gradients, or few large ones by Hessian-free optimisation."""
    seed: int = 0
    """Of initialisation and of the order of samples."""
    task: str = "classification"
    """What is learnt: classification, regression, or package.module:function of a task."""
    epochs: int = 10
    """Passes over the training set."""
    minibatch: int = 1024
    """Samples in a minibatch, over all workers; with selection, in the first ones."""
    log_every: int = 20
    """Steps between lines in events.jsonl and on the display."""
    evaluate_every: float | None = None
    """Epochs between exact evaluations on all samples. By default the test set is evaluated after
    each epoch, and training loss and error are the epoch's averages."""
    timeout: float = 120.0
    """Seconds a collective may take before the run fails."""
    resume: str = "auto"
    """auto: go on from the run folder's newest checkpoint; never: start anew; or a path to a
    checkpoint or run folder to go on from."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints, by worker 0's clock; inf writes only the last one."""
    keep_checkpoints: int = 2
    """Checkpoints kept in the run folder."""
    max_restarts: int = 0
    """With --workers: how often a lost worker makes all start again from the checkpoint."""
    data: DataFields = field(default_factory=DataFields)
    model: ModelFields = field(default_factory=ModelFields)
    optimizer: OptimizerFields = field(default_factory=OptimizerFields)
    exchange: ExchangeFields = field(default_factory=ExchangeFields)
    local: LocalFields = field(default_factory=LocalFields)
    selection: SelectionFields = field(default_factory=SelectionFields)
    decay: DecayFields = field(default_factory=DecayFields)
    hessian_free: HessianFreeFields = field(default_factory=HessianFreeFields)

    def __post_init__(self) -> None:
        if isinstance(self.data, str | Path):  # as short as "data" is in a recipe
            object.__setattr__(self, "data", DataFields(path=str(self.data)))
        check_values(self)
        check_task_name(self.task)
        expect_at_least(1, "", self, "workers", "epochs", "minibatch", "log_every", "timeout")
        expect_at_least(1, "", self, "keep_checkpoints", "model_parallel")
        expect_at_least(0, "", self, "seed", "checkpoint_every", "max_restarts")
        if self.evaluate_every is not None and not self.evaluate_every > 0:
            raise ValueError(f"evaluate_every: expected > 0, got {self.evaluate_every}")
        if self.selection.every and self.selection.largest < self.minibatch:
            raise ValueError(
                f"selection.largest: expected >= minibatch, which is {self.minibatch}, "
                f"got {self.selection.largest}"
            )
        if self.decay.held_out and self.optimizer.lr_decay != 1:
            raise ValueError(
                f"optimizer.lr_decay: expected 1 where decay.held_out is {self.decay.held_out} "
                f"and decides instead, got {self.optimizer.lr_decay}"
            )
        if self.model_parallel > 1:
            self._check_model_parallel()
        if self.local.every:
            self._check_local()
        for name in foreign_fields(self.algorithm):
            _expect_default(name, getattr(self, name), _default(name), self.algorithm)
        if self.algorithm == "hessian-free":
            _expect_default("model.pretrain", self.model.pretrain, 0, self.algorithm)

    def _check_model_parallel(self) -> None:
        """Raise ValueError for what needs whole models on every worker."""
        _expect(
            "model_parallel",
            ("exchange.double_buffer", self.exchange.double_buffer, False),
            ("selection.every", self.selection.every, 0),
            ("model.pretrain", self.model.pretrain, 0),
        )

    def _check_local(self) -> None:
        """Raise ValueError for what needs an exchange in every step."""
        if self.exchange.start == SERIAL:
            raise ValueError(
                "exchange.start: expected a code with local.every, in whose start all train, got "
                f"{SERIAL}"
            )
        _expect(
            "local.every",
            ("exchange.start_samples", self.exchange.start_samples, 0),
            ("exchange.double_buffer", self.exchange.double_buffer, False),
            ("optimizer.adagrad", self.optimizer.adagrad, "none"),
            ("selection.every", self.selection.every, 0),
            ("model.pretrain", self.model.pretrain, 0),
            ("model_parallel", self.model_parallel, 1),
        )

    @property
    def length_flag(self) -> str:
        """The flag that says how long the run is."""
        return "--hessian-free.iterations" if self.algorithm == "hessian-free" else "--epochs"

    @property
    def method(self) -> str:
        """What the run is called in comparisons."""
        if self.algorithm == "hessian-free":
            return _METHODS[self.hessian_free.method]
        named = f"{words(self.exchange.code)} SGD"
        if self.local.every:
            late = f", {self.local.delay} late" if self.local.delay else ""
            return f"{named}, {self.local.every} local steps{late}"
        return f"{named}, double-buffered" if self.exchange.double_buffer else named


def foreign_fields(algorithm: Algorithm) -> tuple[str, ...]:
    """Fields and sections that only the other algorithms read.

    >>> foreign_fields("sgd")
    ('hessian_free',)
    """
    return tuple(name for other, names in _READ_BY.items() if other != algorithm for name in names)


def _expect(beside: str, *fields_of: tuple[str, object, object]) -> None:
    """Raise ValueError for the first (field, value, expected) whose value is another one."""
    for name, value, expected in fields_of:
        if value != expected:
            raise ValueError(f"{name}: expected {expected} with {beside}, got {value}")


def _expect_default(name: str, value: object, default: object, algorithm: Algorithm) -> None:
    """A field that would have no effect must not be set."""
    if is_dataclass(default):
        for part in fields(default):
            inner = getattr(value, part.name), getattr(default, part.name)
            _expect_default(f"{name}.{part.name}", *inner, algorithm)
    elif value != default:
        raise ValueError(f"{name}: algorithm {algorithm} does not use it, got {value}")


def _default(name: str) -> object:
    found = Recipe.__dataclass_fields__[name]
    return found.default if found.default_factory is MISSING else found.default_factory()
