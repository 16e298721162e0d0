"""Several runs side by side, as Markdown, CSV, JSON or a table for the terminal."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from thinwire.report.columns import columns_of
from thinwire.report.labels import with_unique_labels
from thinwire.report.rules import COUNTING_RULES
from thinwire.report.run import Run
from thinwire.report.thresholds import price_blocks, price_rows

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("md", "csv", "json")


def table_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One dict per run, from column key to value (numbers as numbers, missing as None)."""
    columns = columns_of(runs)
    return [
        {column.key: column.value(run) for column in columns} for run in with_unique_labels(runs)
    ]


def table_cells(runs: Sequence[Run]) -> list[list[str]]:
    """One list of texts per run, written for people, in the order of the columns."""
    columns = columns_of(runs)
    return [[column.text(row[column.key]) for column in columns] for row in table_rows(runs)]


def render(runs: Sequence[Run], format: str) -> str:  # noqa: A002 - the word callers expect
    """Write the comparison of runs as text.

    Args:
        runs: The runs, one row each.
        format: ``"md"``, ``"csv"`` or ``"json"``. Markdown rounds for reading; the others keep
            every digit, with missing values empty (CSV) or null (JSON). Markdown and JSON say too
            what it took to reach values of a metric in training, Markdown also how that is counted.

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
        return json.dumps(_json_rows(runs), indent=2)
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
    for column in columns_of(runs)[1:]:
        values = [row[column.key] for row in rows]
        if any(value is not None for value in values):
            table.add_row(column.title, *(Text(column.text(value)) for value in values))
    return table


def _json_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row per run, what it took to reach values in training under its key "reached"."""
    rows = table_rows(runs)
    for row in rows:
        row["reached"] = []
    reached = {row["run"]: row["reached"] for row in rows}
    for price in price_rows(runs):
        reached[price["run"]].append({k: value for k, value in price.items() if k != "run"})
    return rows


def _markdown(runs: Sequence[Run]) -> str:
    head = [(column.title, column.numeric) for column in columns_of(runs)]
    lines = _markdown_table(head, table_cells(runs))
    blocks = price_blocks(runs)
    for block in blocks:
        head = [(heading, place > 0) for place, heading in enumerate(block.headings)]
        lines += ["", f"{block.title}:", "", *_markdown_table(head, block.rows), ""]
    if blocks:
        lines += [f"- {rule}" for rule in COUNTING_RULES]
    return "\n".join(lines)


def _markdown_table(head: Sequence[tuple[str, bool]], rows: Sequence[list[str]]) -> list[str]:
    """Lines of a table; ``head`` holds titles and whether their column is numeric."""
    return [
        "| " + " | ".join(title for title, _ in head) + " |",
        "|" + "|".join(" ---: " if numeric else " --- " for _, numeric in head) + "|",
        *("| " + " | ".join(map(_markdown_text, cells)) + " |" for cells in rows),
    ]


def _markdown_text(text: str) -> str:
    """Keep a cell one cell: Markdown passes HTML through and splits at bars."""
    escaped = html.escape(text, quote=False)
    for char in "\\`*_[]|":
        escaped = escaped.replace(char, "\\" + char)
    return escaped


def _csv(runs: Sequence[Run]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [column.key for column in columns_of(runs)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows(runs))
    return out.getvalue().removesuffix("\n")
