"""The metrics of a run, which its start event names; those of former versions had an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinwire.report.events import Event
from thinwire.report.formatting import significant, two_decimals
from thinwire.report.text import clean_text

if TYPE_CHECKING:
    from thinwire.report.run import Run

LENGTH = 60
MAX_METRICS = 16
MAX_THRESHOLDS = 32
_LARGEST = 1e100


@dataclass(frozen=True)
class Metric:
    """A quantity that tells how good a model is.

    Attributes:
        key: Its name: its field in step events, "train_KEY" and "test_KEY" in evaluations.
        title: What people call it.
        higher_is_better: Which way is better.
        percent: Whether it is a fraction, which is shown in per cent.
        thresholds: Values on the training samples of which tables tell what reaching them cost.
        plural: The field of an event that lists several of its values.
    """

    key: str
    title: str
    higher_is_better: bool = False
    percent: bool = False
    thresholds: tuple[float, ...] = ()
    plural: str = ""

    @property
    def scale(self) -> float:
        """What its values are multiplied with."""
        return 100.0 if self.percent else 1.0

    @property
    def train(self) -> str:
        """Its field in evaluations on the training samples."""
        return f"train_{self.key}"

    @property
    def test(self) -> str:
        """Its field in evaluations on the test samples."""
        return f"test_{self.key}"

    @property
    def label(self) -> str:
        """The axis label, with its unit."""
        return f"{self.title} (%)" if self.percent else self.title

    @property
    def heading(self) -> str:
        """The heading of a column, with its unit."""
        return f"{self.title} %" if self.percent else self.title

    @property
    def suffix(self) -> str:
        """What keys in CSV and JSON end with: the name and its unit."""
        return f"{self.key}_percent" if self.percent else self.key

    def text(self, value: float | None) -> str:
        """Write a scaled value for people, without its unit."""
        return two_decimals(value) if self.percent else significant(value)

    def with_unit(self, value: float) -> str:
        """Write a value as it stands in events for people, with its unit."""
        return f"{self.text(self.scale * value)}{' %' if self.percent else ''}"

    def reaches(self, value: float, threshold: float) -> bool:
        """Whether a value is as good as a threshold; a quotient of counts may be rounded."""
        tolerance = 1e-9
        if self.higher_is_better:
            return value >= threshold - tolerance
        return value <= threshold + tolerance

    def best(self, values: Sequence[float]) -> float | None:
        """The best of some values, None of none."""
        return (max if self.higher_is_better else min)(values, default=None)


LOSS = Metric("loss", "loss")
ERROR = Metric("error", "error", percent=True, thresholds=(0.05, 0.04, 0.03, 0.02, 0.01))
ACCURACY = Metric("accuracy", "accuracy", higher_is_better=True, percent=True, plural="accuracies")


def metrics_told(start: Event) -> tuple[Metric, ...]:
    """The metrics a start event names; the error where it names none.

    Raises:
        ValueError: If it names them in another form.
    """
    told = start.get("metrics")
    if told is None:
        return (ERROR,)
    if not isinstance(told, list):
        raise ValueError(f"field metrics: got {clean_text(told, LENGTH)}, expected a list")
    if len(told) > MAX_METRICS:
        raise ValueError(f"field metrics: expected at most {MAX_METRICS}, got {len(told)}")
    return tuple(_metric(one, "metrics") for one in told)


def deciding_told(start: Event) -> Metric:
    """The metric that decides, which a start event names; accuracy where it names none.

    Raises:
        ValueError: If it names it in another form.
    """
    told = start.get("decides")
    return ACCURACY if told is None else _metric(told, "decides")


def metrics_of(runs: Sequence[Run]) -> tuple[Metric, ...]:
    """The loss and every metric of some runs, each once."""
    return tuple(dict.fromkeys([LOSS, *(metric for run in runs for metric in run.metrics)]))


def _metric(told: Any, field: str) -> Metric:
    name = told.get("name") if isinstance(told, dict) else None
    thresholds = told.get("thresholds") or () if isinstance(told, dict) else ()
    numbers = (
        isinstance(thresholds, list | tuple)
        and len(thresholds) <= MAX_THRESHOLDS
        and all(
            isinstance(value, int | float) and abs(value) <= _LARGEST and value is not True
            for value in thresholds
        )
    )
    if not isinstance(name, str) or not name.isidentifier() or not numbers:
        raise ValueError(
            f"field {field}: got {clean_text(told, LENGTH)}, "
            'expected {"name": "<name>", "thresholds": [numbers], ...}'
        )
    return Metric(
        key=name[:LENGTH],
        title=clean_text(told.get("title") or name, LENGTH),
        higher_is_better=told.get("higher_is_better") is True,
        percent=told.get("percent") is True,
        thresholds=tuple(float(value) for value in thresholds),
        plural=clean_text(told.get("plural") or f"{name}_values", LENGTH),
    )
