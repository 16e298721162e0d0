"""The columns of a comparison of runs; every format of the table is made from this list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thinwire.report.formatting import (
    one_decimal,
    plain,
    short,
    significant,
    tidy,
    two_decimals,
    whole,
    yes_no,
)
from thinwire.report.metrics import Metric, metrics_of
from thinwire.report.run import Run, number
from thinwire.report.text import clean_text
from thinwire.report.thresholds import best_test


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: The name in CSV and JSON, with its unit.
        title: The heading for people.
        value: What it takes from a run: text, a number, a bool or None.
        text: How that value is written for people.
        numeric: Whether it is aligned to the right.
    """

    key: str
    title: str
    value: Callable[[Run], Any]
    text: Callable[[Any], str]
    numeric: bool = True


def _from_result(field: str, scale: float = 1.0) -> Callable[[Run], float | None]:
    """A number of the summary times a scale."""

    def value(run: Run) -> float | None:
        found = number(run.result, field)
        return None if found is None else tidy(found * scale)

    return value


def epochs_done(run: Run) -> float | None:
    """How many epochs a run trained, with the fraction of an unfinished one."""
    seen = [number(events[-1], "epoch") for events in (run.epochs, run.steps) if events]
    found = [epoch for epoch in seen if epoch is not None]
    if run.finished and run.epochs and seen[0] is not None:
        return seen[0]
    return max(found) if found else None


def _metric_columns(metric: Metric) -> list[Column]:
    """A metric at the end of a run on test and training samples, and its best on test samples."""

    def best(run: Run) -> float | None:
        found = best_test(run, metric)
        return None if found is None else tidy(metric.scale * found)

    test, train = (_from_result(name, metric.scale) for name in (metric.test, metric.train))
    return [
        Column(f"test_{metric.suffix}", f"test {metric.heading}", test, metric.text),
        Column(f"train_{metric.suffix}", f"train {metric.heading}", train, metric.text),
        Column(f"best_test_{metric.suffix}", f"best test {metric.heading}", best, metric.text),
    ]


def columns_of(runs: Sequence[Run]) -> tuple[Column, ...]:
    """All columns, with those of the runs' metrics."""
    metrics = metrics_of(runs)[1:]  # the loss has none
    measured = [column for metric in metrics for column in _metric_columns(metric)]
    phones = _PHONES if any(run.decoding for run in runs) else ()
    return (*_HEAD, *measured, *phones, *_TAIL)


def _phone_error(run: Run) -> float | None:
    found = None if run.decoding is None else number(run.decoding, "phone_error")
    return None if found is None else tidy(100 * found)


def _replicas(run: Run) -> bool | None:
    value = run.result.get("replicas_identical")
    return value if isinstance(value, bool) else None


_HEAD: tuple[Column, ...] = (
    Column("run", "run", lambda run: run.label, plain, numeric=False),
    Column(
        "status",
        "status",
        lambda run: "finished" if run.finished else "unfinished",
        plain,
        numeric=False,
    ),
    Column(
        "method",
        "method",
        lambda run: clean_text(run.result.get("method") or run.start.get("method") or "unknown"),
        plain,
        numeric=False,
    ),
    Column("workers", "workers", _from_result("workers"), whole),
    Column("steps", "steps", _from_result("steps"), whole),
    Column("epochs", "epochs", lambda run: tidy(epochs_done(run)), short),
)

_PHONES = (Column("phone_error_percent", "phone error %", _phone_error, two_decimals),)
_TAIL: tuple[Column, ...] = (
    Column("communications", "vector communications", _from_result("communications"), whole),
    Column(
        "scalar_communications",
        "scalar communications",
        _from_result("scalar_communications"),
        whole,
    ),
    Column(
        "mb_sent_per_worker",
        "MB sent per worker",
        _from_result("bytes_sent_per_worker", 1e-6),
        significant,
    ),
    Column("compression", "compression (run)", _from_result("compression"), one_decimal),
    Column(
        "compression_steady",
        "compression (steady)",
        _from_result("compression_steady"),
        one_decimal,
    ),
    Column("seconds", "seconds", _from_result("seconds"), one_decimal),
    Column("samples_per_second", "samples/s", _from_result("samples_per_second"), whole),
    Column("replicas_identical", "replicas identical", _replicas, yes_no, numeric=False),
)
