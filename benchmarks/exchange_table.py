"""The exchange benchmark's figures from its stored measurements, and its tables.

For every contender: the *ratio*, how many times faster than dense, as the median over repeats of
the ratio within one repeat; its *factor*, dense payload bytes over its own, by the interfaces'
counters; and how much of the factor the ratio reaches. Were the wire all that takes time, the ratio
would be the factor.
"""

import statistics
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lab import Comparison, parse_rate
from benchmarks.lab.overhead import wire_seconds
from benchmarks.record import spread

# (hosts, rate, values) -> how many times faster than dense `thinwire sign` must be.
BARS = {(4, "100mbit", "8M"): 29.0, (4, "1gbit", "8M"): 14.0, (4, "none", "8M"): 2.5}


@dataclass(frozen=True)
class Row:
    """One contender in one run.

    Attributes:
        name: the contender's.
        seconds: median, smallest and largest time of one exchange.
        ratio: how many times faster than dense.
        ratio_low: the smallest ratio within one repeat.
        ratio_high: the largest.
        megabytes: payload a host sent for one exchange.
        factor: dense payload over its own.
        wire: seconds its bytes occupy one host's wire, headers included; 0 if not throttled.
        unexplained: by how much the interface's payload exceeds the ledger; None without ledger.
    """

    name: str
    seconds: tuple[float, float, float]
    ratio: float
    ratio_low: float
    ratio_high: float
    megabytes: float
    factor: float
    wire: float
    unexplained: float | None

    @property
    def reached(self) -> float:
        """The ratio as a fraction of what the bytes allow."""
        return self.ratio / self.factor


def rows(run: dict[str, Any]) -> list[Row]:
    """The figures of one stored run."""
    results, rate = run["results"], parse_rate(run["settings"]["rate"])
    dense = results["dense"]
    table = []
    for name, result in results.items():
        ratios = [a / b for a, b in zip(dense["seconds"], result["seconds"], strict=True)]
        payload, ledger = result["payload_bytes"], result.get("ledger_bytes")
        table.append(
            Row(
                name=name,
                seconds=spread(result["seconds"]),
                ratio=statistics.median(ratios),
                ratio_low=min(ratios),
                ratio_high=max(ratios),
                megabytes=payload / 1e6,
                factor=dense["payload_bytes"] / payload,
                wire=wire_seconds(payload, rate),
                unexplained=None if ledger is None else Comparison(ledger, payload, 0).unexplained,
            )
        )
    return table


def show(runs: dict[str, Any]) -> None:
    """Print one table for each run, and the bars."""
    console = Console(width=120)
    for key, run in runs.items():
        if "error" in run:
            console.print(f"[bold]{key}[/]: {run['error']}")
            continue
        title = f"{key} (load {run['load'][0]} to {run['load'][1]})"
        console.print(_table(title, rows(run)))
    for (hosts, rate, values), bar in BARS.items():
        run = runs.get(f"{hosts} hosts, {rate}, {values}", {})
        sign = [row for row in rows(run) if row.name == "thinwire sign"] if "results" in run else []
        if sign:
            met = "met" if sign[0].ratio >= bar else "missed"
            console.print(f"{hosts} hosts, {rate}, {values}: {sign[0].ratio:.1f}, bar {bar}: {met}")


def _table(title: str, table_rows: list[Row]) -> Table:
    table = Table(title=title)
    for column in ("contender", "ms", "min .. max", "x dense", "min .. max", "MB sent"):
        table.add_column(column, justify="right")
    for column in ("factor", "reached", "ms on the wire", "ledger off by"):
        table.add_column(column, justify="right")
    for row in table_rows:
        median, low, high = (1e3 * seconds for seconds in row.seconds)
        table.add_row(
            row.name,
            f"{median:.1f}",
            f"{low:.1f} .. {high:.1f}",
            f"{row.ratio:.2f}",
            f"{row.ratio_low:.2f} .. {row.ratio_high:.2f}",
            f"{row.megabytes:.3f}",
            f"{row.factor:.1f}",
            f"{100 * row.reached:.1f} %",
            f"{1e3 * row.wire:.1f}" if row.wire else "-",
            "-" if row.unexplained is None else f"{100 * row.unexplained:+.2f} %",
        )
    return table
