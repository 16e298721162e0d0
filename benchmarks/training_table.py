"""The training benchmark's figures from its stored runs, and its tables."""

import statistics
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.training_contenders import CONTENDERS, DIRECT, GRIDS, START, Rates
from benchmarks.training_tasks import TASKS

WARM_UP = 2  # steps at the beginning of either phase that are not counted: buckets are built anew


def grid_key(task: str, contender: str, rates: Rates) -> str:
    """Under which a run of the grid is stored."""
    return f"{task}, {contender}, lr {rates.lr:g}, momentum {rates.momentum:g}"


def speed_key(task: str, contender: str, rate: str) -> str:
    """Under which a run on a wire is stored."""
    return f"{task}, {contender}, {rate}"


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """What a worker wrote, in as much room as it deserves: medians of steps, not steps."""
    phases = {}
    for name, exact in (("start", True), ("steady", False)):
        steps = [step for step in result["steps"] if step["exact"] == exact][WARM_UP:]
        if steps:
            seconds = [step["seconds"] for step in steps]
            phases[name] = {
                "seconds": statistics.median(seconds),
                "fastest": min(seconds),
                "slowest": max(seconds),
                "bytes": statistics.median(step["bytes"] for step in steps),
                "steps": len(steps),
            }
    total = {name: sum(step[name] for step in result["steps"]) for name in ("seconds", "bytes")}
    return {
        "phases": phases,
        "total": {"steps": len(result["steps"]), **total},
        "scores": result["scores"],
        "reached": result["reached"],
    }


def best_point(runs: dict[str, Any], task: str, contender: str) -> Rates | None:
    """The point of the grid that met the target in the fewest steps; None if none did."""
    reached = [
        (runs[key]["reached"], rates)
        for rates in GRIDS[task]
        if (key := grid_key(task, contender, rates)) in runs and runs[key].get("reached")
    ]
    return min(reached, key=lambda pair: pair[0])[1] if reached else None


@dataclass(frozen=True)
class Row:
    """One contender on one task and wire.

    Attributes:
        contender: its name.
        rates: the best point of its grid.
        steps_a_second: in steady state.
        spread: fastest and slowest of those, as steps a second.
        steps: to the target.
        seconds: to the target.
        megabytes: one worker sends to the target.
    """

    contender: str
    rates: Rates
    steps_a_second: float
    spread: tuple[float, float]
    steps: int | None
    seconds: float | None
    megabytes: float | None


def row(runs: dict[str, Any], task: str, contender: str, rate: str) -> Row | str | None:
    """The figures, or the error, or None where nothing is stored."""
    wire = runs.get(speed_key(task, contender, rate))
    if wire is None:
        return None
    if "error" in wire:
        return str(wire["error"])
    rates = best_point(runs, task, contender)
    steady = wire["phases"]["steady"]
    common = {
        "contender": contender,
        "rates": rates or Rates(wire["settings"]["lr"], wire["settings"]["momentum"]),
        "steps_a_second": 1 / steady["seconds"],
        "spread": (1 / steady["slowest"], 1 / steady["fastest"]),
    }
    if contender in DIRECT:
        total, reached = wire["total"], wire["reached"]
        seconds, sent = total["seconds"], total["bytes"] / 1e6
        done = reached is not None
        return Row(
            **common,
            steps=reached,
            seconds=seconds if done else None,
            megabytes=sent if done else None,
        )
    if rates is None:
        return Row(**common, steps=None, seconds=None, megabytes=None)
    steps = runs[grid_key(task, contender, rates)]["reached"]
    start = min(steps, START) if "start" in wire["phases"] else 0
    first = wire["phases"].get("start", steady)
    return Row(
        **common,
        steps=steps,
        seconds=start * first["seconds"] + (steps - start) * steady["seconds"],
        megabytes=(start * first["bytes"] + (steps - start) * steady["bytes"]) / 1e6,
    )


def stored_rates(runs: dict[str, Any]) -> list[str]:
    """The wires there are results of."""
    return list(
        dict.fromkeys(r["settings"]["rate"] for r in runs.values() if r["settings"]["rate"])
    )


def show(runs: dict[str, Any]) -> None:
    """Print a table for each task and wire."""
    console = Console(width=120)
    for task in TASKS:
        for rate in stored_rates(runs):
            table = Table(title=f"{task} at {rate}, 4 hosts")
            for column in ("contender", "lr, momentum", "steps/s", "min .. max", "steps"):
                table.add_column(column, justify="right")
            for column in ("s to target", "MB to target"):
                table.add_column(column, justify="right")
            for contender in CONTENDERS:
                found = row(runs, task, contender, rate)
                if isinstance(found, str):
                    table.add_row(contender, found)
                elif found is not None:
                    table.add_row(*_cells(found))
            if table.row_count:
                console.print(table)


def _cells(figures: Row) -> list[str]:
    low, high = figures.spread
    return [
        figures.contender,
        f"{figures.rates.lr:g}, {figures.rates.momentum:g}",
        f"{figures.steps_a_second:.2f}",
        f"{low:.2f} .. {high:.2f}",
        "not met" if figures.steps is None else str(figures.steps),
        "-" if figures.seconds is None else f"{figures.seconds:.0f}",
        "-" if figures.megabytes is None else f"{figures.megabytes:.0f}",
    ]
