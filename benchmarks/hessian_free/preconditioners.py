"""What the preconditioner and the codes do: iterations and passes to a training error.

    python -m benchmarks.hessian_free.preconditioners       (60 minutes)

784-400-10 on MNIST, curvature batch 4096, seeds 0 and 1; codes with seed 0.
"""

import sys
from collections.abc import Sequence

from benchmarks.command import main
from benchmarks.hessian_free.runs import METHODS, cell, reached
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results
from benchmarks.tables import Table, side_by_side

PRECONDITIONERS = {"kronecker": 12, "diagonal": 18, "none": 18}  # and how many iterations
SEEDS = (0, 1)
OPTIONS = ("gradient_code", "product_code")
CODES = ("float32", "bfloat16", "8-bit", "4-bit", "rotated", "sign")
BATCH = 4096


def cells(_: Results) -> list[Cell]:
    """Return all preconditioners, then all codes."""
    found = [
        cell(
            f"{method}, {name}, {seed}",
            iterations,
            seed,
            method=method,
            preconditioner=name,
            curvature_batch=BATCH,
        )
        for method in METHODS
        for name, iterations in PRECONDITIONERS.items()
        for seed in SEEDS
    ]
    for option in OPTIONS:
        for code in CODES:
            options = {option: code, "curvature": "sharded", "curvature_batch": BATCH}
            found.append(cell(f"{option}, {code}", 12, **options))
    return found


def tables(results: Results) -> list[Table]:
    """Return a line for each method and preconditioner, and one for each code."""
    lines, of_codes = [], []
    for method in METHODS:
        for name in PRECONDITIONERS:
            keys = [f"{method}, {name}, {seed}" for seed in SEEDS]
            if all(key in results for key in keys):
                passes = reached(results, keys, 2, 1)
                lines.append(
                    [
                        f"`{method}`",
                        name,
                        *_iterations(results, keys),
                        passes,
                        _tests(results, keys),
                    ]
                )
    for option in OPTIONS:
        for code in CODES:
            keys = [f"{option}, {code}"]
            if keys[0] in results:
                of_codes.append(
                    [f"`{option}`", code, *_iterations(results, keys), _tests(results, keys)]
                )
    its = ("its to 4 %", "2 %", "1 %")
    return [
        Table(
            "Preconditioners",
            ("method", "preconditioner", *its, "passes to 2 %", "best test error"),
            lines,
        ),
        Table("Codes", ("option", "code", *its, "best test error"), of_codes),
    ]


def _iterations(results: Results, keys: Sequence[str]) -> list[str]:
    return [reached(results, keys, target) for target in (4, 2, 1)]


def _tests(results: Results, keys: Sequence[str]) -> str:
    return side_by_side([results[key].measures["best_test"] for key in keys], 2) + " %"


BENCHMARK = Benchmark(
    "preconditioners",
    "benchmarks.hessian_free.preconditioners",
    cells,
    tables,
    100.0,
    ("method",),
    processes=2,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
