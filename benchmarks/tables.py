"""Tables of results, for the terminal, for Markdown pages and for the page of all results."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.store import Results, measured
from benchmarks.timing import Range

WIRES = {
    "10mbit": "10 Mbit/s",
    "100mbit": "100 Mbit/s",
    "1gbit": "1 Gbit/s",
    "none": "not throttled",
}
"""The laboratory's rates as tables and figures have them."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: above it.
        headings: of the columns.
        rows: texts; a short row is a name and why there is nothing.
        best: (row, column) of cells in bold on the page.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()

    def markdown(self) -> str:
        """Return its title and itself."""
        return f"{self.title}\n\n{markdown(self.headings, self.rows)}"


def of_measures(
    title: str, results: Results, columns: Mapping[str, Callable[[dict[str, Any]], str]]
) -> Table:
    """Return a table with a line for each result that did not fail.

    Args:
        title: of the table.
        results: what was measured.
        columns: heading -> how a cell's measures become a text.
    """
    rows = [
        [key, *(text(run.measures) for text in columns.values())]
        for key, run in measured(results).items()
    ]
    return Table(title, ("", *columns), rows)


def number(name: str, digits: int = 2, scale: float = 1.0) -> Callable[[dict[str, Any]], str]:
    """Return how a measure becomes a text; a dash where a cell does not have it."""
    return lambda measures: f"{scale * measures[name]:.{digits}f}" if name in measures else "-"


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def smallest(columns: Mapping[int, Sequence[float]]) -> frozenset[tuple[int, int]]:
    """Return the places of the smallest values; none of a column without a finite one.

    >>> sorted(smallest({1: [3.0, 2.0], 4: [1.0, 5.0]}))
    [(0, 4), (1, 1)]
    """
    return frozenset(
        (min(range(len(values)), key=values.__getitem__), column)
        for column, values in columns.items()
        if any(map(math.isfinite, values))
    )


def ranged(values: Range, digits: int = 0) -> str:
    """Return median and spread.

    >>> ranged((2.0, 1.0, math.inf)), ranged((2.04, 2.0, 2.1), 1)
    ('2 (1 to never)', '2.0 (2.0 to 2.1)')
    """
    middle, low, high = (
        f"{value:,.{digits}f}" if math.isfinite(value) else "never" for value in values
    )
    return f"{middle} ({low} to {high})"


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean, and from the smallest to the largest.

    >>> mean_and_spread([1.0, 2.0, 3.3])
    '2.10 (1.00 to 3.30)'
    """
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def per_cent(value: float) -> str:
    """Return a deviation as "+4.2 %"."""
    return f"{100 * value:+.1f} %"


def side_by_side(values: Sequence[float | None], digits: int) -> str:
    """Return the values of several seeds, a dash for one that there is not.

    >>> side_by_side([7, None, 6], 0)
    '7 / - / 6'
    """
    return " / ".join("-" if value is None else f"{value:,.{digits}f}" for value in values)
