"""The training benchmark's figures from its stored cells, and its tables."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lab import parse_rate
from benchmarks.record import spread
from benchmarks.training_contenders import ENTRIES, NEWTON, SEEDS, START, Settings, words
from benchmarks.training_jobs import best_settings, speed_key, train_key
from benchmarks.training_tasks import GOALS

WARM_UP = 2  # steps at the beginning of either phase that are not counted: buckets are built anew

Range = tuple[float, float, float]
"""Median, smallest, largest."""


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """What a worker wrote, in as much room as it deserves: medians of steps, not steps."""
    phases = {}
    for name, exact in (("start", True), ("steady", False)):
        of_phase = [step for step in result["steps"] if step["exact"] == exact]
        steps = of_phase[WARM_UP:] or of_phase
        if steps:
            median, low, high = spread([step["seconds"] for step in steps])
            phases[name] = {
                "seconds": median,
                "fastest": low,
                "slowest": high,
                "bytes": statistics.median(step["bytes"] for step in steps),
                "steps": len(steps),
            }
    total = {name: sum(step[name] for step in result["steps"]) for name in ("seconds", "bytes")}
    return {
        "phases": phases,
        "total": {"steps": len(result["steps"]), **total},
        "scores": result["scores"],
        "reached": result["reached"],
        "wall": round(result["wall"], 2),
    }


@dataclass(frozen=True)
class Row:
    """One contender on one task and wire.

    Attributes:
        contender: its name.
        settings: the best point of its grid; None where the grid is not done.
        steps_a_second: in steady state: median, slowest, fastest.
        runs: how many seeds were trained.
        met: how many of them met the target.
        steps: to the target, over seeds; None unless most of them met it, like all that follow.
            The largest is infinite where one did not.
        seconds: to the target.
        megabytes: one worker sends to the target.
    """

    contender: str
    settings: Settings | None
    steps_a_second: Range
    runs: int
    met: int
    steps: Range | None
    seconds: Range | None
    megabytes: Range | None


def row(runs: dict[str, Any], task: str, contender: str, rate: str) -> Row | str | None:
    """The figures, or the error, or None where nothing is stored."""
    direct = contender in NEWTON
    seeds = SEEDS if direct else SEEDS[:1]
    wires = [runs.get(speed_key(task, contender, rate, seed)) for seed in seeds]
    found = [wire for wire in wires if wire is not None]
    if not found:
        return None
    error = next((str(wire["error"]) for wire in found if "error" in wire), None)
    if error is not None:
        return error
    steady = found[0]["phases"]["steady"]
    pace = tuple(1 / steady[name] for name in ("seconds", "slowest", "fastest"))
    trained = found if direct else _trained(runs, task, contender)
    met = sum(run["reached"] is not None for run in trained)
    outcomes = [_totals(run) if direct else _product(run, found[0]) for run in trained]
    if 2 * met <= len(trained) or not trained:
        steps = seconds = megabytes = None
    else:
        steps, seconds, megabytes = (spread(values) for values in zip(*outcomes, strict=True))
    best = best_settings(runs, task, contender)
    return Row(contender, best, pace, len(trained), met, steps, seconds, megabytes)  # type: ignore[arg-type]


def _trained(runs: dict[str, Any], task: str, contender: str) -> list[dict[str, Any]]:
    found = [runs.get(train_key(task, contender, seed)) for seed in SEEDS]
    return [run for run in found if run is not None and "error" not in run]


def _totals(run: dict[str, Any]) -> Range:
    """Steps, seconds and megabytes of a run that went to the target on the wire itself."""
    if run["reached"] is None:
        return math.inf, math.inf, math.inf
    return run["reached"], run["total"]["seconds"], run["total"]["bytes"] / 1e6


def _product(run: dict[str, Any], wire: dict[str, Any]) -> Range:
    """The same of a run on an open wire: its steps, times what a step takes on this one."""
    steps = run["reached"]
    if steps is None:
        return math.inf, math.inf, math.inf
    steady = wire["phases"]["steady"]
    first = wire["phases"].get("start", steady)
    start = min(steps, START) if "start" in wire["phases"] else 0

    def both(name: str) -> float:
        return start * first[name] + (steps - start) * steady[name]

    return steps, both("seconds"), both("bytes") / 1e6


def stored_rates(runs: dict[str, Any]) -> list[str]:
    """The wires there are results of, the thinnest first."""
    rates = {run["settings"]["rate"] for run in runs.values()} - {None}
    return sorted(rates, key=lambda rate: parse_rate(rate) or math.inf)


HEADINGS = ("contender", "settings", "steps/s", "steps", "seconds to target", "MB to target")


def cells(found: Row) -> list[str]:
    """A row for people: medians, and smallest to largest in brackets."""
    pace, low, high = found.steps_a_second
    settings = "grid not done" if found.settings is None else words(found.settings)
    missed = f"met by {found.met} of {found.runs} seeds" if found.runs else "not trained yet"
    return [
        found.contender,
        settings,
        f"{pace:.2f} ({low:.2f} to {high:.2f})",
        missed if found.steps is None else ranged(found.steps),
        "-" if found.seconds is None else ranged(found.seconds),
        "-" if found.megabytes is None else ranged(found.megabytes),
    ]


def ranged(values: Range, digits: int = 0) -> str:
    """Median and spread.

    >>> ranged((2.0, 1.0, math.inf)), ranged((2.04, 2.0, 2.1), 1)
    ('2 (1 to never)', '2.0 (2.0 to 2.1)')
    """
    middle, low, high = (
        f"{value:,.{digits}f}" if math.isfinite(value) else "never" for value in values
    )
    return f"{middle} ({low} to {high})"


def table(runs: dict[str, Any], task: str, rate: str) -> list[Row | tuple[str, str]]:
    """All contenders there are results of: rows, or (name, error)."""
    found = [(name, row(runs, task, name, rate)) for name in ENTRIES[task]]
    return [(name, r) if isinstance(r, str) else r for name, r in found if r is not None]


def title(task: str, rate: str) -> str:
    """What a table is about."""
    goal = GOALS[task]
    return f"{task} at {rate}, 4 hosts, to {goal.score} {goal.target:g}"


def best(rows: Sequence[Row], what: str) -> str | None:
    """Whose median is the smallest in a column; None where nobody met the target."""
    met = [(values[0], one.contender) for one in rows if (values := getattr(one, what))]
    return min(met)[1] if met else None


def show(runs: dict[str, Any]) -> None:
    """Print a table for each task and wire."""
    console = Console(width=140)
    for task in GOALS:
        for rate in stored_rates(runs):
            printed = Table(*HEADINGS, title=title(task, rate))
            for found in table(runs, task, rate):
                printed.add_row(*(cells(found) if isinstance(found, Row) else found))
            if printed.row_count:
                console.print(printed)
