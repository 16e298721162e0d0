"""Running a benchmark: measure the cells that are missing and store each.

A benchmark is a list of cells. A cell is one measurement, named by its key and defined by its
settings. What is stored with the same settings is not measured again, so that an interrupted
benchmark goes on where it was; a cell that failed is tried again by the next call.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from benchmarks import launch, store
from benchmarks.launch import Place
from benchmarks.store import Result, Results
from benchmarks.tables import Table

PLACES = {"hosts", "rate"}  # settings that say where a cell runs; its place decides that

Measure = str | Callable[[dict[str, Any]], dict[str, Any]]


class SettingError(ValueError):
    """A setting on the command line that no cell has."""


class CellError(RuntimeError):
    """A cell that cannot be measured; the message is stored in its place."""


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        key: its name, unique within the benchmark.
        settings: all that it depends on, the seed apart.
        measure: settings with "seed" -> measures, called in this process; or "module:function",
            which the workers of ``place`` call.
        place: where the workers run; None with a function of this process.
        start: cells of the same place and start share one start of the workers.
        seed: of everything drawn.
        command: what measures it again by hand, where that is not this benchmark.
    """

    key: str
    settings: dict[str, Any]
    measure: Measure
    place: Place | None = None
    start: str = ""
    seed: int = 0
    command: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A question and how it is answered.

    Attributes:
        name: of the file of results.
        module: what is typed after ``python -m``.
        cells: all cells in order, given what is stored: later ones may depend on earlier results.
        tables: what is printed of the results.
        guess: seconds a cell takes, until one like it is stored.
        alike: the settings that decide how long a cell takes.
        processes: how many cells of this process are measured at a time.
        finish: called with all results after measuring.
    """

    name: str
    module: str
    cells: Callable[[Results], list[Cell]]
    tables: Callable[[Results], list[Table]]
    guess: float = 60.0
    alike: tuple[str, ...] = ()
    processes: int = 1
    finish: Callable[[Results], None] | None = None


def missing(cells: Sequence[Cell], results: Results) -> list[Cell]:
    """Return those that are not stored with the same settings and seed, or only as failed."""

    def stored(cell: Cell) -> bool:
        found = results.get(cell.key, Result("", error="not measured"))
        return found.error is None and (found.settings, found.seed) == (_plain(cell), cell.seed)

    return [cell for cell in cells if not stored(cell)]


def seconds_left(benchmark: Benchmark, todo: Sequence[Cell], results: Results) -> float:
    """Return how long these will take, judged by stored ones that are alike."""

    def kind(settings: dict[str, Any]) -> list[Any]:
        return [settings.get(name) for name in benchmark.alike]

    def expected(cell: Cell) -> float:
        known = [
            r.wall for r in results.values() if r.wall and kind(r.settings) == kind(cell.settings)
        ]
        return statistics.median(known) if known else benchmark.guess

    return sum(map(expected, todo))


def run(
    benchmark: Benchmark,
    only: Sequence[str] = (),
    again: bool = False,
    given: dict[str, Any] | None = None,
) -> None:
    """Measure what is missing, one start of the workers after another.

    Args:
        benchmark: which.
        only: parts of keys; cells whose key has none of them are left out.
        again: measure what is stored as well.
        given: settings that replace those of all cells, to try something small.
    """
    tried: set[str] = set()
    while True:
        results = store.read(benchmark.name)
        cells = wanted(benchmark, results, only, given or {})
        todo = [c for c in (cells if again else missing(cells, results)) if c.key not in tried]
        if not todo:
            return
        minutes = seconds_left(benchmark, todo, results) / 60
        print(f"{todo[0].key}; {len(todo)} to do, about {minutes:.0f} minutes", flush=True)

        def enter(result: Result) -> None:
            tried.add(result.key)
            if result.error is not None:
                print(f"  {result.key}: {result.error}", flush=True)
            store.append(benchmark.name, result)

        if isinstance(todo[0].measure, str):
            _on_workers(benchmark, todo, enter)
        else:
            _here(benchmark, todo, enter)


def wanted(
    benchmark: Benchmark, results: Results, only: Sequence[str], given: dict[str, Any]
) -> list[Cell]:
    """Return the cells that were asked for, with the given settings.

    Raises:
        SettingError: a given setting that no cell has.
    """
    cells = benchmark.cells(results)
    known = {name for cell in cells for name in cell.settings} - PLACES
    for name in given:
        if name not in known:
            raise SettingError(f"--set: expected one of {', '.join(sorted(known))}, got {name!r}")
    chosen = [cell for cell in cells if not only or any(part in cell.key for part in only)]
    return [
        replace(
            cell, settings=cell.settings | {k: v for k, v in given.items() if k in cell.settings}
        )
        for cell in chosen
    ]


def _on_workers(
    benchmark: Benchmark, todo: Sequence[Cell], enter: Callable[[Result], None]
) -> None:
    """Measure the first cell and those that share its start, until one fails."""
    first, before = todo[0], store.load()
    assert first.place is not None, first.key
    assert isinstance(first.measure, str), first.key
    start = (first.measure, first.place, first.start)
    batch = [cell for cell in todo if (cell.measure, cell.place, cell.start) == start]
    left = iter(batch)

    def finished(told: dict[str, Any]) -> None:
        enter(_result(benchmark.module, next(left), before, **told))

    told = [{**cell.settings, "seed": cell.seed} for cell in batch]
    error = launch.on_workers(first.measure, told, first.place, finished)
    if (failed := next(left, None)) is not None:
        enter(_result(benchmark.module, failed, before, error=error or "no result"))


def _here(benchmark: Benchmark, todo: Sequence[Cell], enter: Callable[[Result], None]) -> None:
    """Measure the first cell, or the first few at the same time, in processes of this machine."""
    batch = [cell for cell in todo if not isinstance(cell.measure, str)][: benchmark.processes]
    if len(batch) == 1:
        enter(_measured(benchmark.module, batch[0]))
        return
    with ProcessPoolExecutor(len(batch), mp_context=get_context("spawn")) as pool:
        for result in pool.map(_measured, [benchmark.module] * len(batch), batch):
            enter(result)


def _measured(module: str, cell: Cell) -> Result:
    """Measure one in this process."""
    before, started = store.load(), time.monotonic()
    outcome: dict[str, Any]
    try:
        assert callable(cell.measure), cell.key
        outcome = {"measures": cell.measure({**cell.settings, "seed": cell.seed})}
    except CellError as error:
        outcome = {"error": str(error)}
    return _result(module, cell, before, wall=time.monotonic() - started, **outcome)


def _result(module: str, cell: Cell, before: float, **outcome: Any) -> Result:
    command = cell.command or f"python -m {module} --only {cell.key!r}"
    load = (before, store.load())
    return Result(cell.key, _plain(cell), cell.seed, command=command, load=load, **outcome)


def _plain(cell: Cell) -> dict[str, Any]:
    """The settings as they are read back."""
    plain: dict[str, Any] = json.loads(json.dumps(cell.settings))
    return plain
