"""The sections of a recipe: typed fields, each checked where it stands."""

import math
import unicodedata
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from thinwire.exchange import SERIAL, ExchangeConfig
from thinwire.models import Activation, Initialisation, NormalisedBy
from thinwire.optim import AdaGrad
from thinwire.optim.newton_options import Curvature, Method, Preconditioning
from thinwire.quantize import Axis
from thinwire.train.codes import CHOICES, Codes, check_codes

# What ExchangeConfig checks; codes of one's own are known only when a run is prepared.
_CHECKED = ("error_feedback", "axis", "start_samples", "start_steps", "bucket_mb")


@dataclass(frozen=True, kw_only=True)
class ModelFields:
    """The network: a multi-layer perceptron, or a function's of your own."""

    hidden: tuple[int, ...] = (512, 512, 512)
    """Width of each hidden layer."""
    activation: Activation = "relu"
    """Non-linearity between layers."""
    initialisation: Initialisation = "glorot-he"
    """He for ReLU and Glorot for sigmoid layers, or torch.nn.Linear's own."""
    pretrain: int = 0
    """Samples on which to train each shallower network first, adding hidden layers one by one."""
    normalisation: NormalisedBy = "all"
    """Inputs get mean 0 and variance 1 over all values, or by feature, or stay as they are."""
    factory: str | None = None
    """package.module:function, which makes the network and its loss in place of a perceptron."""
    start: str | None = None
    """Run folder, checkpoint or safetensors file with the weights to start from."""
    rank: int | None = None
    """Hidden layers become pairs of this rank, where that saves parameters, before training."""
    energy: float | None = None
    """The same, with the least rank that keeps this share of the squared singular values."""

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"model.hidden: expected widths >= 1, got {list(self.hidden)}")
        expect_at_least(0, "model", self, "pretrain")
        expect_at_least(1, "model", self, "rank")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ValueError(f"model.energy: expected in (0, 1], got {self.energy}")
        if self.rank is not None and self.energy is not None:
            raise ValueError(f"model.energy: expected none beside model.rank, got {self.energy}")
        if self.factory is not None:
            self._check_factory()
        if self.pretrain:
            self._check_pretrain()

    def _check_factory(self) -> None:
        module, _, function = (self.factory or "").partition(":")
        if not (all(map(str.isidentifier, module.split("."))) and function.isidentifier()):
            raise ValueError(f"model.factory: expected package.module:function, got {self.factory}")
        for name in ("hidden", "activation", "initialisation", "pretrain"):
            value = getattr(self, name)
            if value != getattr(ModelFields, name):
                raise ValueError(f"model.{name}: model.factory does not use it, got {value}")

    def _check_pretrain(self) -> None:
        if len(self.hidden) < 2:
            raise ValueError(
                f"model.pretrain: expected 2 hidden layers or more, got {len(self.hidden)}"
            )
        for name in ("start", "rank", "energy"):
            if getattr(self, name) is not None:
                raise ValueError(f"model.{name}: expected none beside model.pretrain")


@dataclass(frozen=True, kw_only=True)
class OptimizerFields:
    """What the owners do with the aggregated gradient, or workers with theirs in local steps."""

    lr: float = 0.2
    """Learning rate on the mean gradient of a minibatch, in the first epoch."""
    lr_decay: float = 1.0
    """Factor on the learning rate after each epoch."""
    momentum_time_constant: float = 2500.0
    """Samples over which momentum forgets; 0 is no momentum."""
    weight_decay: float = 0.0
    """As in torch.optim.SGD."""
    adagrad: AdaGrad = "none"
    """Where AdaGrad divides: at each worker, at the owner, or after momentum."""

    def __post_init__(self) -> None:
        expect_at_least(0, "optimizer", self, "lr", "momentum_time_constant", "weight_decay")
        if not 0 < self.lr_decay <= 1:
            raise ValueError(f"optimizer.lr_decay: expected in (0, 1], got {self.lr_decay}")


@dataclass(frozen=True, kw_only=True)
class ExchangeFields:
    """How gradients and updates travel: ``ExchangeConfig`` as a recipe and flags say it."""

    code: Annotated[Codes, tyro.conf.arg(help=f"How both stages travel, or each: {CHOICES}.")] = (
        "sign"
    )
    """How gradients travel to their owners and updates back, one code or one for each."""
    error_feedback: bool | float = ExchangeConfig.error_feedback
    """The part of the quantisation error that the next step carries, 0 to 1 (True: all of it)."""
    axis: Axis = ExchangeConfig.axis
    """Whose weights share reconstruction levels: an output unit's or an input unit's."""
    start: Codes = "4-bit"
    """How the first steps travel: by a code, or serial, one worker alone and then one broadcast."""
    start_samples: int = ExchangeConfig.start_samples
    """Samples, over all workers, after which the start is over."""
    start_steps: int = ExchangeConfig.start_steps
    """Steps after which the start is over, in place of samples."""
    bucket_mb: float = ExchangeConfig.bucket_mb
    """Float32 megabytes of gradient after which a bucket is sent while backward goes on."""
    max_skips: int = 10
    """Steps in a row with a non-finite gradient, or rounds, after which the run stops."""
    double_buffer: bool = False
    """After the start exchange one half of each minibatch while the other is computed, on a
    model that lacks it."""

    def __post_init__(self) -> None:
        expect_at_least(0, "exchange", self, "max_skips")
        check_codes("exchange.code", self.code)
        if self.start != SERIAL:
            check_codes("exchange.start", self.start)
        try:
            ExchangeConfig(
                **{f.name: getattr(self, f.name) for f in fields(self) if f.name in _CHECKED}
            )
        except ValueError as error:
            raise ValueError(f"exchange.{error}") from None


@dataclass(frozen=True, kw_only=True)
class LocalFields:
    """Local steps: every worker takes steps of its own, then all exchange how far they moved."""

    every: int = 0
    """Steps of each worker's own in a round; 0 exchanges the gradients of every step instead."""
    lr: float = 1.0
    """The outer learning rate; 1 goes to the mean of what the workers have reached."""
    momentum: float = 0.5
    """The outer momentum, Nesterov's; it suits the number of rounds: 0.5 for a hundred, 0.9 for
    thousands."""
    delay: int = 0
    """Steps of the next round beside which the exchange of a round goes on; 0 waits for it."""

    def __post_init__(self) -> None:
        expect_at_least(0, "local", self, "every", "lr", "momentum", "delay")
        if self.momentum >= 1:
            raise ValueError(f"local.momentum: expected < 1, got {self.momentum}")
        if self.delay and self.delay >= self.every:
            raise ValueError(
                f"local.delay: expected less than local.every = {self.every}, got {self.delay}"
            )


@dataclass(frozen=True, kw_only=True)
class SelectionFields:
    """The minibatch size, chosen anew now and then by trying several (S section 4)."""

    every: int = 0
    """Samples from one selection to the next, none in the cold start; 0 keeps the size."""
    trial: int = 32768
    """Samples each size is tried on, at least eight of the largest minibatches."""
    margin: float = 0.005
    """Training accuracy, a fraction (or whatever metric decides the task), by which a size may be
    worse than the best one tried."""
    growth: float = 2.0
    """The most one selection may multiply the size by; half the size is tried, too."""
    largest: int = 4096
    """No size is larger."""

    def __post_init__(self) -> None:
        expect_at_least(0, "selection", self, "every", "margin")
        expect_at_least(1, "selection", self, "growth", "largest")
        # Harm shows in the steps after it: with three, a run grew into a size that broke it.
        expect_at_least(8 * self.largest, "selection", self, "trial")


@dataclass(frozen=True, kw_only=True)
class DecayFields:
    """The learning rate, lowered where a held-out metric stops improving (S section 4)."""

    held_out: int = 0
    """Training samples kept aside to measure on; 0 lowers nothing."""
    factor: float = 0.5
    """On the learning rate, each time."""
    threshold: float = 0.001
    """Accuracy, a fraction (or whatever metric decides the task), by which an evaluation must beat
    the best so far to count as better."""
    patience: int = 0
    """Evaluations that may be no better before the learning rate is lowered."""
    give_up: int = 3
    """Training ends when, lowered this often without getting better, it would be lowered again."""

    def __post_init__(self) -> None:
        expect_at_least(0, "decay", self, "held_out", "threshold", "patience", "give_up")
        if not 0 < self.factor < 1:
            raise ValueError(f"decay.factor: expected in (0, 1), got {self.factor}")


@dataclass(frozen=True, kw_only=True)
class HessianFreeFields:
    """The outer iterations of Hessian-free optimisation."""

    method: Method = "gauss-newton"
    """Which curvature matrix is solved with, and by which solver."""
    iterations: int = 15
    """Outer iterations: one gradient, one solve and one update each."""
    curvature_batch: int = 4096
    """Samples of the solver's random batch, over all workers."""
    solver_iterations: int | None = None
    """Iterations of the solver; the method's own number by default."""
    damping: float | None = None
    """What is added to the curvature at first; the method's own value by default."""
    curvature: Curvature = "replicated"
    """Every worker holds the whole batch and solves without communication, or a part of it."""
    preconditioner: Preconditioning = "auto"
    """Of the solver; auto is the method's own."""
    warm_start: float | None = None
    """The solver begins at this much of the previous step; the method's own by default."""
    least_cosine: float = 0.0
    """Of Bi-CG-STAB's stabilising steps: 0 as the paper has it, 0.7 to amplify rounding less."""
    codes: Annotated[
        tuple[str, str],
        tyro.conf.arg(help=f"How gradients and sharded curvature products travel: {CHOICES}."),
    ] = ("float32", "float32")
    """How gradients and sharded curvature products travel."""

    def __post_init__(self) -> None:
        expect_at_least(1, "hessian_free", self, "iterations", "curvature_batch")
        expect_at_least(1, "hessian_free", self, "solver_iterations")
        expect_at_least(0, "hessian_free", self, "damping", "warm_start")
        check_codes("hessian_free.codes", self.codes)


# The largest values of fields with their own bounds; an int's or float's are below.
_MOST: dict[str, float] = {
    "workers": 4096,
    "model_parallel": 4096,
    "max_restarts": 10**6,
    "seed": 2**62,
    "timeout": 1e7,
    "checkpoint_every": math.inf,
    "keep_checkpoints": 10**6,
    "minibatch": 2**31,
    "selection.largest": 2**31,
    "hessian_free.curvature_batch": 2**31,
    "model.hidden": 2**24,
    "exchange.bucket_mb": 1e6,
    "optimizer.lr": 1e6,
    "local.lr": 1e6,
    "optimizer.weight_decay": 1e6,
    "hessian_free.solver_iterations": 10**6,
}
_MOST_INT, _MOST_FLOAT = 2**40, 1e12
_MOST_VALUES = 1000


def check_values(fields_of: Any, section: str = "") -> None:
    """Check every number and text of a recipe, its sections' included.

    Raises:
        ValueError: a number is not finite, beyond its bound or a bool; a text has control
            characters or is no Unicode; naming the field.
    """
    for part in fields(fields_of):
        name, value = f"{section}{part.name}", getattr(fields_of, part.name)
        if is_dataclass(value):
            check_values(value, f"{name}.")
        elif isinstance(value, str | Path):
            check_text(name, str(value))
        else:
            _check_items(name, value, isinstance(part.default, bool))


def check_text(name: str, text: str) -> None:
    """Raise ValueError, naming the field, for text that a recipe's file could not hold."""
    strange = next((char for char in text if unicodedata.category(char) in ("Cc", "Cs")), None)
    if strange is not None:
        raise ValueError(
            f"{name}: expected printable text, got the character {strange!r} in {text[:200]!r}"
        )


def _check_items(name: str, value: object, may_be_bool: bool) -> None:
    items = value if isinstance(value, tuple) else (value,)
    if len(items) > _MOST_VALUES:
        raise ValueError(f"{name}: expected at most {_MOST_VALUES} values, got {len(items)}")
    for item in items:
        if isinstance(item, str):
            check_text(name, item)
        elif isinstance(item, bool):
            if not may_be_bool:
                raise ValueError(f"{name}: expected a number, got {item}")
        elif isinstance(item, int | float):
            most = _MOST.get(name, _MOST_INT if isinstance(item, int) else _MOST_FLOAT)
            if not abs(item) <= most:
                raise ValueError(f"{name}: expected at most {most:g}, got {_number_text(item)}")


def _number_text(value: float) -> str:
    """A number, however many digits an int has."""
    long = isinstance(value, int) and value.bit_length() > 128
    return f"an integer of {int(value).bit_length()} bits" if long else str(value)


def expect_at_least(least: float, section: str, fields: object, *names: str) -> None:
    """Raise ValueError, naming the first of the fields that has a value below ``least``."""
    for name in names:
        value = getattr(fields, name)
        if value is not None and not value >= least:
            where = f"{section}.{name}" if section else name
            raise ValueError(f"{where}: expected >= {least}, got {_number_text(value)}")
