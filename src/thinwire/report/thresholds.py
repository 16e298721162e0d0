"""What it took to reach given training errors."""

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
    two_decimals,
    whole,
)
from thinwire.report.labels import with_unique_labels
from thinwire.report.run import Run, number

if TYPE_CHECKING:
    from rich.console import Group

PERCENTS = (5, 4, 3, 2, 1)
TITLE = "To reach a training error"
NOT_REACHED = "never"
_TOLERANCE = 1e-9  # 0.02 as a quotient of counts may be a rounding above 0.02


@dataclass(frozen=True)
class Price:
    """One column: something that reaching an error costs.

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
    Price("mb_sent_per_worker", "MB sent", "bytes_sent", significant, scale=1e-6),
    Price("seconds", "seconds", "seconds", one_decimal),
)
HEADINGS = (
    *("run", "train error %", "measured"),
    *(price.title for price in PRICES),
    "best test error %",
)


def price_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One dict per run and training error; prices are None where the error was not reached.

    Runs that never measured a training error are left out.
    """
    return [
        {"run": run.label, "train_error_percent": percent, **_prices(run, percent)}
        for run in with_unique_labels(runs)
        if any(number(event, "train_error") is not None for event in run.epochs)
        for percent in PERCENTS
    ]


def price_cells(runs: Sequence[Run]) -> list[list[str]]:
    """The rows written for people, in the order of ``HEADINGS``."""
    return [
        [
            row["run"],
            f"{row['train_error_percent']}",
            plain(row["measured"] if row["iterations"] is not None else NOT_REACHED),
            *(price.text(row[price.key]) for price in PRICES),
            two_decimals(row["best_test_error_percent"]),
        ]
        for row in price_rows(runs)
    ]


def price_tables(runs: Sequence[Run]) -> Group:
    """The rows for a terminal of 80 columns: a small table for each run."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tables: dict[str, Table] = {}
    for name, percent, measured, *prices in price_cells(runs):
        if name not in tables:
            # Text, not str: a run's name may look like rich markup.
            title = Text(f"{TITLE}: {name}", style="italic")
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
            table.padding = (0, 0)
            for heading in ("error %", *(price.title for price in PRICES), "best test %"):
                longest = max(map(len, heading.split()))
                table.add_column(heading, justify="right", min_width=longest)
            tables[name] = table
        if measured == NOT_REACHED:
            prices = [measured, *[""] * len(PRICES)]
        tables[name].add_row(percent, *prices)
    return Group(*tables.values())


def best_test_error(run: Run, last: Event | None = None) -> float | None:
    """The lowest test error (fraction) up to an evaluation, or of all."""
    found = []
    for event in run.epochs:
        error = number(event, "test_error")
        if error is not None:
            found.append(error)
        if event is last:
            break
    return min(found, default=None)


def _prices(run: Run, percent: int) -> dict[str, Any]:
    event = _first_at_most(run, percent / 100)
    prices: dict[str, Any] = {"measured": None}
    for price in PRICES:
        value = None if event is None else number(event, price.field)
        prices[price.key] = None if value is None else tidy(value * price.scale)
    best = None if event is None else best_test_error(run, event)
    prices["best_test_error_percent"] = None if best is None else tidy(100 * best)
    if event is not None:
        prices["measured"] = "exact" if event.get("exact") is True else "average"
    return prices


def _first_at_most(run: Run, error: float) -> Event | None:
    """The first evaluation at which the training error was no larger."""
    for event in run.epochs:
        found = number(event, "train_error")
        if found is not None and found <= error + _TOLERANCE:
            return event
    return None
