"""The exchange benchmark's figures from its stored results, and its tables.

For every contender: the *ratio*, how many times faster than dense, as the median over repeats of
the ratio within one repeat; its *factor*, dense payload bytes over its own, by the interfaces'
counters; and how much of the factor the ratio reaches. Were the wire all that takes time, the ratio
would be the factor.
"""

from dataclasses import dataclass

from benchmarks.store import Result, Results, measured
from benchmarks.tables import Table, ranged, smallest
from benchmarks.timing import Range, ratios, spread


@dataclass(frozen=True)
class Row:
    """One contender in one run.

    Attributes:
        name: the contender's.
        seconds: of one exchange.
        ratio: how many times faster than dense.
        megabytes: payload that a host sent for one exchange.
        factor: dense payload over its own.
        unexplained: by how much the interface's payload exceeds the ledger; None without ledger.
    """

    name: str
    seconds: Range
    ratio: Range
    megabytes: float
    factor: float
    unexplained: float | None

    @property
    def reached(self) -> float:
        """The ratio as a fraction of what the bytes allow."""
        return self.ratio[0] / self.factor


def rows(run: Result) -> list[Row]:
    """Return the figures of one stored run."""
    dense = run.measures["dense"]
    found = []
    for name, own in run.measures.items():
        payload, ledger = own["payload_bytes"], own.get("ledger_bytes")
        found.append(
            Row(
                name=name,
                seconds=spread(own["seconds"]),
                ratio=spread(ratios(dense["seconds"], own["seconds"])),
                megabytes=payload / 1e6,
                factor=dense["payload_bytes"] / payload,
                unexplained=None if ledger is None else payload / ledger - 1,
            )
        )
    return found


HEADINGS = ("contender", "ms", "times dense", "MB sent", "bytes allow", "of that reached", "ledger")


def tables(results: Results) -> list[Table]:
    """Return a table for each run."""
    return [_table(key, rows(run)) for key, run in measured(results).items()]


def page_tables(results: Results) -> list[Table]:
    """Return those of the page of all results: 8M values."""
    return tables({k: run for k, run in results.items() if run.settings["values"] == "8M"})


def _table(title: str, found: list[Row]) -> Table:
    texts = [
        [
            row.name,
            ranged((1e3 * row.seconds[0], 1e3 * row.seconds[1], 1e3 * row.seconds[2]), 1),
            ranged(row.ratio, 1),
            f"{row.megabytes:.3f}",
            f"{row.factor:.1f}",
            f"{100 * row.reached:.0f} %",
            "-" if row.unexplained is None else f"{100 * row.unexplained:+.2f} %",
        ]
        for row in found
    ]
    columns = {1: [row.seconds[0] for row in found], 3: [row.megabytes for row in found]}
    return Table(title, HEADINGS, texts, smallest(columns))
