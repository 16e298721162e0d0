"""The training benchmark's figures from its stored cells, and its tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.lab import parse_rate
from benchmarks.store import Result, Results, measured
from benchmarks.tables import WIRES, Table, ranged
from benchmarks.timing import Range, spread
from benchmarks.training.cells import best_point, speed_key, train_key
from benchmarks.training.contenders import (
    CONTENDERS,
    ENTRIES,
    NEWTON,
    SEEDS,
    UNCHANGED,
    Point,
    grid,
    words,
)
from benchmarks.training.tasks import GOALS

Outcome = tuple[float, float, float, float]
"""Steps, seconds, megabytes sent and received by a worker."""
NEVER = (math.inf,) * 4


@dataclass(frozen=True)
class Row:
    """One contender on one task and wire.

    Attributes:
        contender: its name.
        point: the best of its grid; None where the grid is not done.
        steps_a_second: in steady state: median, slowest, fastest.
        runs: how many seeds were trained.
        met: how many of them met the target.
        steps: to the target, over seeds; None unless most of them met it, like all that follow.
            The largest is infinite where one did not.
        seconds: to the target.
        megabytes: one worker sends to the target.
        received: megabytes that it receives.
        last: the last score of every seed, where runs go to the end; else None.
    """

    contender: str
    point: Point | None
    steps_a_second: Range
    runs: int
    met: int
    steps: Range | None
    seconds: Range | None
    megabytes: Range | None
    received: Range | None
    last: Range | None


def row(results: Results, task: str, contender: str, rate: str) -> Row | str | None:
    """Return the figures, or the error, or None where nothing is stored."""
    direct = contender in NEWTON
    seeds = SEEDS if direct else SEEDS[:1]
    found = _stored(results, [speed_key(task, contender, rate, seed) for seed in seeds])
    errors = [run.error for run in found if run.error is not None]
    if errors or not found:
        return errors[0] if errors else None
    steady = found[0].measures["phases"]["steady"]
    pace = (1 / steady["seconds"], 1 / steady["slowest"], 1 / steady["fastest"])
    open_wire = _stored(measured(results), [train_key(task, contender, seed) for seed in SEEDS])
    trained = found if direct else open_wire
    met = sum(run.measures["reached"] is not None for run in trained)
    outcomes = [_totals(run) if direct else _product(run, found[0]) for run in trained]
    if 2 * met <= len(trained):
        figures: tuple[Range | None, ...] = (None,) * 4
    else:
        figures = tuple(spread(values) for values in zip(*outcomes, strict=True))
    best = best_point(results, task, contender)
    ends = [run.measures["scores"][-1][1] for run in trained if GOALS[task].to_the_end]
    last = spread(ends) if ends else None
    return Row(contender, best, pace, len(trained), met, *figures, last)


def _stored(results: Results, keys: Sequence[str]) -> list[Result]:
    return [results[key] for key in keys if key in results]


def _totals(run: Result) -> Outcome:
    """The outcome of a run that went to the target on the wire itself."""
    reached, total = run.measures["reached"], run.measures["total"]
    if reached is None:
        return NEVER
    return reached, total["seconds"], total["bytes"] / 1e6, total["received"] / 1e6


def _product(run: Result, wire: Result) -> Outcome:
    """The same of a run on an open wire: its steps, times what a step takes on this one."""
    steps = run.measures["reached"]
    return NEVER if steps is None else after(steps, run, wire)


def after(steps: float, run: Result, wire: Result) -> Outcome:
    """Return what so many steps of a run on an open wire would have taken on this one."""
    phases = wire.measures["phases"]
    first, steady = phases.get("start", phases["steady"]), phases["steady"]
    start = min(steps, run.settings["point"].get("start", 0))

    def both(name: str) -> float:
        return start * first[name] + (steps - start) * steady[name]

    return steps, both("seconds"), both("bytes") / 1e6, both("received") / 1e6


def curves(results: Results, task: str, contender: str, rate: str) -> list[list[list[float]]]:
    """Return the scores of each seed: [score, seconds, megabytes sent] at each step it was taken.

    None are returned where the contender has not been measured on this wire.
    """
    known = measured(results)
    wire = known.get(speed_key(task, contender, rate, SEEDS[0]))
    if wire is None or contender in NEWTON:
        return []
    runs = _stored(known, [train_key(task, contender, seed) for seed in SEEDS])
    return [
        [[score, *after(steps, run, wire)[1:3]] for steps, score in run.measures["scores"]]
        for run in runs
    ]


def stored_rates(results: Results) -> list[str]:
    """Return the wires there are results of, the thinnest first."""
    rates = {run.settings["rate"] for run in results.values()} - {None}
    return sorted(rates, key=lambda rate: parse_rate(rate) or math.inf)


HEADINGS = (
    "contender",
    "settings",
    "steps/s",
    "steps",
    "seconds to target",
    "MB sent",
    "MB received",
    "last score",
)


def texts(found: Row) -> list[str]:
    """Return a row for people: medians, and smallest to largest in brackets."""
    pace, low, high = found.steps_a_second
    point = "grid not done" if found.point is None else words(found.point)
    missed = f"met by {found.met} of {found.runs} seeds" if found.runs else "not trained yet"
    return [
        found.contender,
        point,
        f"{pace:.2f} ({low:.2f} to {high:.2f})",
        missed if found.steps is None else ranged(found.steps),
        "-" if found.seconds is None else ranged(found.seconds),
        *("-" if some is None else ranged(some, 1) for some in (found.megabytes, found.received)),
        "-" if found.last is None else ranged(found.last, 3),
    ]


def rows(results: Results, task: str, rate: str) -> list[Row | tuple[str, str]]:
    """Return all contenders there are results of: rows, or (name, error)."""
    found = [(name, row(results, task, name, rate)) for name in ENTRIES[task]]
    return [(name, r) if isinstance(r, str) else r for name, r in found if r is not None]


def best(found: Sequence[Row | tuple[str, str]], what: str) -> int | None:
    """Return the place of the smallest median; None where nobody met the target."""
    met = [
        (values[0], place)
        for place, one in enumerate(found)
        if isinstance(one, Row) and (values := getattr(one, what))
    ]
    return min(met)[1] if met else None


def tables(results: Results) -> list[Table]:
    """Return a table for each task and wire."""
    made = []
    for task, goal in GOALS.items():
        for rate in stored_rates(results):
            found = rows(results, task, rate)
            columns = {4: best(found, "seconds"), 5: best(found, "megabytes")}
            bold = frozenset((place, n) for n, place in columns.items() if place is not None)
            lines = [texts(one) if isinstance(one, Row) else one for one in found]
            wire = WIRES.get(rate, rate)
            title = f"{task} at {wire}, 4 hosts, to {goal.score} {goal.target:g}"
            if lines:
                made.append(Table(title, HEADINGS, lines, bold))
    return made


def grids() -> Table:
    """Return what every contender of the training benchmark was tried with."""
    lines = []
    for task, goal in GOALS.items():
        target = f"{goal.score} {goal.target:g}"
        for name in ENTRIES[task]:
            entry = CONTENDERS[name]
            points = "; ".join(words(point) for point in grid(task, name))
            if name in UNCHANGED:
                points = f"that of {UNCHANGED[name]}"
            then = "; ".join(map(words, entry.changes)) or "-"
            lines.append([task, target, name, points, then])
    return Table("Grids", ("task", "target", "contender", "points", "then, at the best"), lines)
