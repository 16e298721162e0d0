"""``thinwire report RUN...``: several runs in one page or table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from thinwire.cli.usage import UsageError, parse, user_errors
from thinwire.files import write_atomically
from thinwire.report import load_runs, price_rows, price_tables, render, terminal_table, write_page


@dataclass(frozen=True)
class ReportFields:
    """Compare runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders."""
    format: Literal["html", "md", "csv", "json"] = "html"
    """A page with figures, or the table alone."""
    out: Path | None = None
    """Where it goes: report.html by default, a table to standard output."""


def run(args: list[str]) -> int:
    """Write the report; returns the exit code."""
    fields = parse(ReportFields(), args, prog="thinwire report")
    if not fields.runs:
        raise UsageError("expected at least one run folder, such as runs/mnist-onebit")

    with user_errors():
        runs = load_runs(fields.runs)
        if fields.format != "html":
            _table(render(runs, fields.format), fields.out)
            return 0
        page = fields.out or Path("report.html")
        write_page(runs, page)
    console = Console()
    console.print(terminal_table(runs))
    if len(runs) > 1 and price_rows(runs):
        console.print(price_tables(runs))
    console.print(f"wrote {page}", soft_wrap=True, markup=False)
    return 0


def _table(text: str, out: Path | None) -> None:
    if out is None:
        print(text)
        return
    write_atomically(out, f"{text}\n")
    print(f"wrote {out}")
