"""Recipes: what a run does, as typed fields. A TOML file or a flag sets any of them."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from thinwire.optim import AdaGrad
from thinwire.quantize import Axis, stage_codes


@dataclass(frozen=True, kw_only=True)
class ModelFields:
    """The network: a multi-layer perceptron."""

    hidden: tuple[int, ...] = (512, 512, 512)
    """Width of each hidden layer."""
    activation: Literal["relu", "sigmoid"] = "relu"
    """Non-linearity between layers; it also decides the initialisation."""

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"model.hidden: expected widths >= 1, got {list(self.hidden)}")


@dataclass(frozen=True, kw_only=True)
class OptimizerFields:
    """What the owners do with the aggregated gradient."""

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
        _expect_at_least(0, "optimizer", self, "lr", "momentum_time_constant", "weight_decay")
        if not 0 < self.lr_decay <= 1:
            raise ValueError(f"optimizer.lr_decay: expected in (0, 1], got {self.lr_decay}")


@dataclass(frozen=True, kw_only=True)
class ExchangeFields:
    """How gradients and updates travel."""

    code: Literal["sign", "rotated", "float32"] = "sign"
    """What one bit a value means, or the exact twin."""
    bits: tuple[int, int] = (1, 1)
    """Bits a value, 1, 2, 4 or 8: of gradients to their owners, and of updates back."""
    error_feedback: bool = True
    """Carry the quantisation error into the next step; off for ablations."""
    axis: Axis = "output"
    """Whose weights share reconstruction levels: an output unit's or an input unit's."""
    cold_start: int = 0
    """Samples to train exactly before the code is used."""
    cold_start_mode: Literal["serial", "dense"] = "serial"
    """One worker alone and then one broadcast, or float32 exchanges."""
    bucket_mb: float = 25.0
    """Float32 megabytes of gradient after which a bucket is sent while backward goes on."""
    max_skips: int = 10
    """Steps in a row with a non-finite gradient after which the run stops."""

    def __post_init__(self) -> None:
        _expect_at_least(0, "exchange", self, "cold_start", "max_skips")
        stage_codes(self.code, self.bits)
        if self.bucket_mb <= 0:
            raise ValueError(f"exchange.bucket_mb: expected > 0, got {self.bucket_mb}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    workers: int = 1
    """Worker processes to start here; under torchrun or Slurm theirs count."""
    out: Path | None = None
    """Run folder; runs/NAME by default."""
    seed: int = 0
    """Of initialisation and of the order of samples."""
    data: Path | None = None
    """Folder with the four IDX files; MNIST is found or fetched by default."""
    epochs: int = 10
    """Passes over the training set."""
    minibatch: int = 1024
    """Samples in a minibatch, over all workers."""
    log_every: int = 20
    """Steps between lines in events.jsonl and on the display."""
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
    model: ModelFields = field(default_factory=ModelFields)
    optimizer: OptimizerFields = field(default_factory=OptimizerFields)
    exchange: ExchangeFields = field(default_factory=ExchangeFields)

    def __post_init__(self) -> None:
        _expect_at_least(1, "", self, "workers", "epochs", "minibatch", "log_every", "timeout")
        _expect_at_least(1, "", self, "keep_checkpoints")
        _expect_at_least(0, "", self, "seed", "checkpoint_every", "max_restarts")

    @property
    def method(self) -> str:
        """What the run is called in comparisons."""
        if self.exchange.code == "float32":
            return "dense SGD"
        kind = {"sign": "", "rotated": "rotated "}[self.exchange.code]
        one, two = self.exchange.bits
        return f"{kind}{one}-bit SGD" if one == two else f"{kind}{one}/{two}-bit SGD"


def recipe_names() -> list[str]:
    """The recipes shipped with the package."""
    return sorted(path.name.removesuffix(".toml") for path in _shipped() if path.is_file())


def find_recipe(name: str) -> tuple[str, dict[str, Any]]:
    """The name and fields of a shipped recipe or of a TOML file.

    Args:
        name: "mnist-onebit", or a path that ends in .toml.

    Returns:
        The recipe's short name and its fields as a flat mapping, "optimizer.lr" -> value.

    Raises:
        ValueError: no such recipe (with the nearest name), or not TOML.
        OSError: the file cannot be read.
    """
    if name.endswith(".toml"):
        path = Path(name)
        text, short = path.read_text(encoding="utf-8"), path.stem
    else:
        if name not in recipe_names():
            close = difflib.get_close_matches(name, recipe_names(), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"no recipe {name!r}: {hint}expected one of {', '.join(recipe_names())}, "
                "or a path to a .toml file"
            )
        file = resources.files("thinwire.recipes").joinpath(f"{name}.toml")
        text, short = file.read_text(encoding="utf-8"), name
    try:
        return short, dict(_flatten(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: not a TOML file: {error}") from None


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML that ``find_recipe`` reads back; fields that are None are left out."""
    nested = _lasting(recipe)
    plain = {key: value for key, value in nested.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in nested.items() if isinstance(value, dict)}
    lines = _toml_lines(plain)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def to_jsonable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested plain values."""
    nested = _lasting(recipe)
    return {key: str(value) if isinstance(value, Path) else value for key, value in nested.items()}


def flat_fields(recipe: Recipe) -> dict[str, Any]:
    """The recipe's fields as ``find_recipe`` gives them: "optimizer.lr" -> plain value."""
    return dict(_flatten(tomllib.loads(to_toml(recipe))))


def _lasting(recipe: Recipe) -> dict[str, Any]:
    """All fields but ``resume``, which is one call's and not the run's."""
    nested = asdict(recipe)
    del nested["resume"]
    return nested


def _toml_lines(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {_toml_value(value)}" for key, value in table.items() if value is not None]


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    if isinstance(value, str | Path):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def _flatten(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shipped() -> Iterator[Any]:
    return (p for p in resources.files("thinwire.recipes").iterdir() if p.name.endswith(".toml"))


def _expect_at_least(least: float, section: str, fields: object, *names: str) -> None:
    for name in names:
        value = getattr(fields, name)
        if not value >= least:
            where = f"{section}.{name}" if section else name
            raise ValueError(f"{where}: expected >= {least}, got {value}")
