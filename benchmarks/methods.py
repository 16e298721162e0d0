"""H Figure 1 and its table: what every method takes to reach a training error.

    python -m benchmarks.methods            (45 minutes on two quiet cores; interrupted, it goes on)
    python -m benchmarks.methods --show     (what is stored, time left)

Recipes of ``thinwire train`` with 4 workers and seeds 0, 1 and 2, on H's perceptron. For each run
its curve (loss and errors over iterations, epochs, communications, bytes and seconds) and what it
took to reach 5, 4, 3, 2 and 1 % training error go to benchmarks/results/methods.json.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import record
from benchmarks.recipe_runs import Cell, missing, run_all, seconds_left
from thinwire.report.thresholds import PERCENTS

NAME = "methods"
SEEDS = (0, 1, 2)
GUESS = 60.0  # seconds a run takes on two quiet cores

ITERATIONS = ("--hessian-free.iterations", "16")
EPOCHS = ("--epochs", "5")
ONE_BIT = ("--exchange.code", "sign", "--exchange.cold-start", "6000")
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
    """Under which a run is stored."""
    return f"{label}, seed {seed}"


def cells(seeds: Sequence[int] = SEEDS) -> dict[str, Cell]:
    """All runs, the first seed of all methods first."""
    return {
        key(label, seed): Cell(key(label, seed), recipe, ("--workers", "4", *flags), seed)
        for seed in seeds
        for label, (recipe, flags) in METHODS.items()
    }


def lines(runs: dict[str, Any], percent: int) -> list[list[str]]:
    """What it took to reach a training error, seeds side by side; a dash: not reached."""
    table = []
    for label, found in reaching(runs, percent).items():
        prices = [price_of(run, percent) for run in found]
        texts = [_cell(prices, name, digits) for name, (_, digits) in PRICES.items()]
        tests = " / ".join(f"{100 * best_test(run):.2f}" for run in found)
        table.append([label, *texts, f"{tests} %"])
    return table


def medians(runs: dict[str, Any], percent: int) -> list[list[float]]:
    """For each price the medians over seeds, one for each line; not reached is infinite."""

    def price(run: dict[str, Any], name: str) -> float:
        found = price_of(run, percent)
        return math.inf if found is None else found[name]

    reached = reaching(runs, percent).values()
    return [
        [statistics.median(price(run, name) for run in found) for found in reached]
        for name in PRICES
    ]


def reaching(runs: dict[str, Any], percent: int) -> dict[str, list[dict[str, Any]]]:
    """By method its runs, of those methods any run of which reached a training error."""
    by_label = {
        label: [run for seed in SEEDS if "curve" in (run := runs.get(key(label, seed), {}))]
        for label in METHODS
    }
    return {
        label: found
        for label, found in by_label.items()
        if any(price_of(run, percent) for run in found)
    }


def price_of(run: dict[str, Any], percent: int) -> dict[str, Any] | None:
    """The stored prices of one threshold; None if it was not reached."""
    found = [price for price in run["reached"] if price["train_error_percent"] == percent]
    return found[0] if found else None


def best_test(run: dict[str, Any]) -> float:
    """The lowest test error on the whole curve, a fraction."""
    return min(point["test_error"] for point in run["curve"])


def _cell(prices: Sequence[dict[str, Any] | None], name: str, digits: int) -> str:
    return " / ".join("-" if p is None else f"{p[name]:,.{digits}f}" for p in prices)


def markdown(runs: dict[str, Any]) -> str:
    """All thresholds, as in docs/hessian-free.md."""
    parts = []
    for percent in PERCENTS:
        reached = lines(runs, percent)
        if not reached:
            continue
        body = [HEADINGS, ["---"] * len(HEADINGS), *reached]
        table = "\n".join("| " + " | ".join(line) + " |" for line in body)
        parts.append(f"To {percent} % training error:\n\n{table}")
    return "\n\n".join(parts)


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    arguments = parser.parse_args()
    labels = {key(label, seed) for label in arguments.only for seed in arguments.seeds}
    if not arguments.show:
        run_all(NAME, {name: cell for name, cell in cells().items() if name in labels}, GUESS)
    print(markdown(record.read(NAME)["runs"]))
    todo = missing(NAME, cells())
    minutes = seconds_left(NAME, todo, GUESS) / 60
    print(f"\n{len(todo)} of {len(cells())} runs missing, about {minutes:.0f} minutes")


if __name__ == "__main__":
    main()
