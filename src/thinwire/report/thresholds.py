"""What it took to reach given values of a metric on the training samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinwire.report.events import Event
from thinwire.report.formatting import (
    one_decimal,
    plain,
    short,
    significant,
    tidy,
    whole,
)
from thinwire.report.labels import with_unique_labels
from thinwire.report.metrics import ERROR, Metric
from thinwire.report.run import Run, number

if TYPE_CHECKING:
    from rich.console import Group

PERCENTS = tuple(round(100 * threshold) for threshold in ERROR.thresholds)
NOT_REACHED = "never"


@dataclass(frozen=True)
class Price:
    """One column: something that reaching a value costs.

    Attributes:
        key: The name in JSON, with its unit.
        title: The heading for people.
        field: The cumulative field of evaluation events.
        text: How the value is written for people.
        scale: What the field is multiplied with.
    """

    key: str
    title: str
    field: str
    text: Callable[[Any], str]
    scale: float = 1.0


PRICES: tuple[Price, ...] = (
    Price("iterations", "iterations", "step", whole),
    Price("passes", "passes", "epoch", short),
    Price("communications", "vector comm.", "communications", whole),
    Price("scalar_communications", "scalar comm.", "scalar_communications", whole),
    Price("mb_sent_per_worker", "MB sent by worker 0", "bytes_sent", significant, scale=1e-6),
    Price("seconds", "seconds", "seconds", one_decimal),
)


@dataclass(frozen=True)
class PriceBlock:
    """The table of the runs that measured one metric, written for people.

    Attributes:
        title: Its heading.
        headings: Of its columns.
        rows: One for each run and threshold.
        note: How to read it.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[list[str]]
    note: str


def priced(run: Run) -> Metric | None:
    """The metric whose thresholds a run is told by, if its training samples were measured."""
    for metric in run.metrics:
        measured = any(number(event, metric.train) is not None for event in run.epochs)
        if metric.thresholds and measured:
            return metric
    return None


def price_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One dict per run and threshold; prices are None where it was not reached.

    Runs that never measured a metric with thresholds on the training samples are left out.
    """
    return [
        row
        for run in with_unique_labels(runs)
        if (metric := priced(run)) is not None
        for row in _rows(run, metric)
    ]


def price_blocks(runs: Sequence[Run]) -> list[PriceBlock]:
    """The rows written for people: a table for each metric."""
    by_metric: dict[Metric, list[list[str]]] = {}
    for run in with_unique_labels(runs):
        metric = priced(run)
        if metric is not None:
            by_metric.setdefault(metric, []).extend(_cells(run, metric))
    return [_block(metric, rows) for metric, rows in by_metric.items()]


def _block(metric: Metric, rows: list[list[str]]) -> PriceBlock:
    worse, best = ("smaller", "highest") if metric.higher_is_better else ("larger", "lowest")
    prices = (price.title for price in PRICES)
    return PriceBlock(
        f"To reach a training {metric.title}",
        ("run", f"train {metric.heading}", "measured", *prices, f"best test {metric.heading}"),
        rows,
        f"The first evaluation at which the training {metric.title} was no {worse}, and the {best} "
        f"test {metric.title} until then.",
    )


def _rows(run: Run, metric: Metric) -> list[dict[str, Any]]:
    return [
        {
            "run": run.label,
            f"train_{metric.suffix}": tidy(metric.scale * threshold),
            **_prices(run, metric, threshold),
        }
        for threshold in metric.thresholds
    ]


def _cells(run: Run, metric: Metric) -> list[list[str]]:
    return [
        [
            row["run"],
            f"{row[f'train_{metric.suffix}']}",
            plain(row["measured"] if row["iterations"] is not None else NOT_REACHED),
            *(price.text(row[price.key]) for price in PRICES),
            metric.text(row[f"best_test_{metric.suffix}"]),
        ]
        for row in _rows(run, metric)
    ]


def price_tables(runs: Sequence[Run]) -> Group:
    """The rows for a terminal of 80 columns: a small table for each run."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tables: list[Table] = []
    for run in with_unique_labels(runs):
        metric = priced(run)
        if metric is None:
            continue
        # Text, not str: a run's name may look like rich markup.
        title = Text(f"To reach a training {metric.title}: {run.label}", style="italic")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        table.padding = (0, 0)
        prices = (price.title for price in PRICES)
        unit = " %" if metric.percent else ""
        for heading in (metric.heading, *prices, f"best test{unit}"):
            longest = max(map(len, heading.split()))
            table.add_column(heading, justify="right", min_width=longest)
        for _, threshold, measured, *values in _cells(run, metric):
            never = [NOT_REACHED, *[""] * len(PRICES)]
            table.add_row(threshold, *(never if measured == NOT_REACHED else values))
        tables.append(table)
    return Group(*tables)


def best_test(run: Run, metric: Metric, last: Event | None = None) -> float | None:
    """The best value on the test samples up to an evaluation, or of all."""
    found = []
    for event in run.epochs:
        value = number(event, metric.test)
        if value is not None:
            found.append(value)
        if event is last:
            break
    return metric.best(found)


def _prices(run: Run, metric: Metric, threshold: float) -> dict[str, Any]:
    event = _first_reaching(run, metric, threshold)
    prices: dict[str, Any] = {"measured": None}
    for price in PRICES:
        value = None if event is None else number(event, price.field)
        prices[price.key] = None if value is None else tidy(value * price.scale)
    best = None if event is None else best_test(run, metric, event)
    prices[f"best_test_{metric.suffix}"] = None if best is None else tidy(metric.scale * best)
    if event is not None:
        prices["measured"] = "exact" if event.get("exact") is True else "average"
    return prices


def _first_reaching(run: Run, metric: Metric, threshold: float) -> Event | None:
    """The first evaluation at which the metric on the training samples was no worse."""
    for event in run.epochs:
        found = number(event, metric.train)
        if found is not None and metric.reaches(found, threshold):
            return event
    return None
