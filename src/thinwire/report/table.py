"""Several runs side by side, as Markdown, CSV, JSON or a table for the terminal."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from thinwire.report.columns import COLUMNS
from thinwire.report.labels import with_unique_labels
from thinwire.report.run import Run

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("md", "csv", "json")


def table_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One dict per run, from column key to value (numbers as numbers, missing as None)."""
    return [
        {column.key: column.value(run) for column in COLUMNS} for run in with_unique_labels(runs)
    ]


def table_cells(runs: Sequence[Run]) -> list[list[str]]:
    """One list of texts per run, written for people, in the order of the columns."""
    return [[column.text(row[column.key]) for column in COLUMNS] for row in table_rows(runs)]


def render(runs: Sequence[Run], format: str) -> str:  # noqa: A002 - the word callers expect
    """Write the comparison of runs as text.

    Args:
        runs: The runs, one row each.
        format: ``"md"``, ``"csv"`` or ``"json"``. Markdown rounds for reading; the others keep
            every digit, with missing values empty (CSV) or null (JSON).

    Returns:
        The text, without a line end after its last line.

    Raises:
        ValueError: If the format is another.
    """
    if format == "md":
        return _markdown(runs)
    if format == "csv":
        return _csv(runs)
    if format == "json":
        return json.dumps(table_rows(runs), indent=2)
    raise ValueError(f"format: got {format!r}, expected one of {', '.join(FORMATS)}")


def terminal_table(runs: Sequence[Run]) -> Table:
    """The comparison as a rich table.

    Quantities go down and runs across, which fits a terminal of 80 columns; quantities which no
    run knows are left out.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = table_rows(runs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for row in rows:
        # Text, not str: a run's name may look like rich markup.
        table.add_column(Text(row["run"]), justify="right", overflow="fold")
    for column in COLUMNS[1:]:
        values = [row[column.key] for row in rows]
        if any(value is not None for value in values):
            table.add_row(column.title, *(Text(column.text(value)) for value in values))
    return table


def _markdown(runs: Sequence[Run]) -> str:
    lines = [
        "| " + " | ".join(column.title for column in COLUMNS) + " |",
        "|" + "|".join(" ---: " if column.numeric else " --- " for column in COLUMNS) + "|",
    ]
    for cells in table_cells(runs):
        lines.append("| " + " | ".join(_markdown_text(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _markdown_text(text: str) -> str:
    """Keep a cell one cell: Markdown passes HTML through and splits at bars."""
    escaped = html.escape(text, quote=False)
    for char in "\\`*_[]|":
        escaped = escaped.replace(char, "\\" + char)
    return escaped


def _csv(runs: Sequence[Run]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [column.key for column in COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows(runs))
    return out.getvalue().removesuffix("\n")
