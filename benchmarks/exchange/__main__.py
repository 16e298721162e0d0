"""Time and bytes of one exchange of gradients over a thin wire, for every contender.

    python -m benchmarks.exchange [--only "4 hosts, 100mbit" ...]       (root; 25 minutes)

A cell is a number of hosts, a rate and a number of values; in it all contenders take turns.
"""

import sys

from benchmarks.command import main
from benchmarks.exchange.contenders import CONTENDERS
from benchmarks.exchange.rows import tables
from benchmarks.launch import Place
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results

MOST = (4, "8M")  # hosts and values where all contenders exchange
ONLY_THERE = {"bare loop sign", "thinwire 4-bit"}


def cells(_: Results) -> list[Cell]:
    """Return every number of hosts on every wire at every size."""
    return [
        Cell(
            f"{hosts} hosts, {rate}, {values}",
            {
                "hosts": hosts,
                "rate": rate,
                "values": values,
                "repeats": 5,
                "contenders": _contenders(hosts, values),
            },
            "benchmarks.exchange.measure:measure",
            Place(hosts, rate),
            start=values,
        )
        for hosts in (4, 2)
        for rate in ("100mbit", "1gbit", "none")
        for values in ("1M", "8M", "50M")
    ]


def _contenders(hosts: int, values: str) -> list[str]:
    return [n for n in CONTENDERS if (hosts, values) == MOST or n not in ONLY_THERE]


BENCHMARK = Benchmark(
    "exchange", "benchmarks.exchange", cells, tables, 80.0, ("hosts", "rate", "values")
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
