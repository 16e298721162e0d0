"""Iterations to 4 % and 2 % training error against the curvature minibatch (H Figure 3, right).

    python -m benchmarks.hessian_free.minibatch       (30 minutes)

Every method on 784-400-10, one seed a point, its default settings with Kronecker factors.
"""

import sys

from benchmarks.command import main
from benchmarks.hessian_free.runs import METHODS, cell, reached
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results
from benchmarks.tables import Table

SIZES = (256, 1024, 4096, 8192)
MOST = 16  # iterations after which a run gives up


def key(method: str, size: int) -> str:
    """Return under which a run is stored."""
    return f"{method}, auto, {size}"


def cells(_: Results) -> list[Cell]:
    """Return every method at every size."""
    return [
        cell(key(method, size), MOST, method=method, preconditioner="auto", curvature_batch=size)
        for method in METHODS
        for size in SIZES
    ]


def tables(results: Results) -> list[Table]:
    """Return one for each error, once all was run."""
    if not all(key(method, size) in results for method in METHODS for size in SIZES):
        return []
    return [
        Table(
            f"iterations to {target} % training error, at most {MOST}",
            ("method, preconditioner", *map(str, SIZES)),
            [
                [f"{method}, auto", *(reached(results, [key(method, n)], target) for n in SIZES)]
                for method in METHODS
            ],
        )
        for target in (4, 2)
    ]


BENCHMARK = Benchmark(
    "minibatch",
    "benchmarks.hessian_free.minibatch",
    cells,
    tables,
    100.0,
    ("method", "curvature_batch"),
    processes=2,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
