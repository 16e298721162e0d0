"""H Figure 1 and its table: what every method takes to reach a training error.

    python -m benchmarks.hessian_free.methods            (45 minutes on two quiet cores)

Recipes of ``thinwire train`` with 4 workers and seeds 0, 1 and 2, on H's perceptron. Of each run
its curve (loss and errors over iterations, epochs, communications, bytes and seconds) is kept and
what it took to reach 5, 4, 3, 2 and 1 % training error.
"""

import math
import statistics
import sys
from typing import Any

from benchmarks.command import main
from benchmarks.recipes import Recipe
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Result, Results
from benchmarks.tables import Table, side_by_side, smallest
from thinwire.report.thresholds import PERCENTS

SEEDS = (0, 1, 2)
ITERATIONS = ("--hessian-free.iterations", "16")
EPOCHS = ("--epochs", "5")
ONE_BIT = ("--exchange.code", "sign", "--exchange.start-samples", "6000")
# Label -> recipe and flags.
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Gauss-Newton": ("mnist-hf-gauss-newton", ITERATIONS),
    "Gauss-Newton, sharded": (
        "mnist-hf-gauss-newton",
        (*ITERATIONS, "--hessian-free.curvature", "sharded"),
    ),
    "Bi-CG-STAB": ("mnist-hf-bicgstab", ITERATIONS),
    "hybrid": ("mnist-hf-hybrid", ITERATIONS),
    "CG": ("mnist-hf-cg", ITERATIONS),
    "Bi-CG-STAB as printed in H": ("mnist-hf-paper", ITERATIONS),
    "SGD, minibatch 64": ("mnist-sgd", EPOCHS),
    "SGD, minibatch 128": ("mnist-sgd", (*EPOCHS, "--minibatch", "128")),
    "1-bit SGD, minibatch 128": ("mnist-sgd", (*EPOCHS, "--minibatch", "128", *ONE_BIT)),
}
# Key of a threshold's price -> heading, decimals.
PRICES = {
    "iterations": ("iterations", 0),
    "passes": ("passes", 1),
    "communications": ("vector sums", 0),
    "scalar_communications": ("small sums", 0),
    "mb_sent_per_worker": ("MB per worker", 0),
    "seconds": ("seconds", 1),
}
HEADINGS = ("method", *(heading for heading, _ in PRICES.values()), "best test error")


def key(label: str, seed: int) -> str:
    """Return under which a run is stored."""
    return f"{label}, seed {seed}"


def recipe(label: str, seed: int) -> Recipe:
    """Return the run of a method."""
    name, flags = METHODS[label]
    return Recipe("methods", key(label, seed), name, ("--workers", "4", *flags), seed)


def cells(_: Results) -> list[Cell]:
    """Return all runs, the first seed of all methods first."""
    return [recipe(label, seed).cell(curve=True) for seed in SEEDS for label in METHODS]


def curves(results: Results) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the label and the curve of each stored run."""
    return [
        (label, results[key(label, seed)].measures["curve"])
        for label in METHODS
        for seed in SEEDS
        if key(label, seed) in results and results[key(label, seed)].measures
    ]


def tables(results: Results) -> list[Table]:
    """Return a table for each training error: the price of reaching it, seeds side by side."""
    return [table for percent in PERCENTS if (table := _table(results, percent)).rows]


def _table(results: Results, percent: int) -> Table:
    found = _reaching(results, percent)
    rows, columns = [], {place: [] for place in range(1, 1 + len(PRICES))}
    for label, runs in found.items():
        prices = [price_of(run, percent) for run in runs]
        texts = []
        for column, (name, (_, digits)) in enumerate(PRICES.items(), start=1):
            values = [None if price is None else price[name] for price in prices]
            texts.append(side_by_side(values, digits))
            columns[column].append(
                statistics.median(math.inf if value is None else value for value in values)
            )
        tests = side_by_side([100 * best_test(run) for run in runs], 2)
        rows.append([label, *texts, f"{tests} %"])
    return Table(f"To {percent} % training error", HEADINGS, rows, smallest(columns))


def _reaching(results: Results, percent: int) -> dict[str, list[Result]]:
    """By method its runs, of those methods any run of which reached a training error."""
    by_label = {
        label: [r for seed in SEEDS if (r := results.get(key(label, seed))) and r.measures]
        for label in METHODS
    }
    return {
        label: runs
        for label, runs in by_label.items()
        if any(price_of(run, percent) for run in runs)
    }


def price_of(run: Result, percent: int) -> dict[str, Any] | None:
    """Return the stored prices of one threshold; None if it was not reached."""
    found = [p for p in run.measures["reached"] if p["train_error_percent"] == percent]
    return found[0] if found else None


def best_test(run: Result) -> float:
    """Return the lowest test error on the whole curve, a fraction."""
    return float(min(point["test_error"] for point in run.measures["curve"]))


BENCHMARK = Benchmark(
    "methods", "benchmarks.hessian_free.methods", cells, tables, 60.0, ("recipe",)
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
