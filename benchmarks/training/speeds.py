"""S Tables 4 and 5 in our units: samples/s against minibatch size, and of data x model grids.

    python -m benchmarks.training.speeds            (root; 12 minutes on two quiet cores)

Table 4: two hosts on thin wires, with and without double buffering. Table 5: D x M workers on one
machine, M of them share a model. Every cell is ``thinwire train mnist-onebit`` of about STEPS
steps; its speed is the median over stretches between step events, with quartiles.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import main
from benchmarks.recipes import thinwire, thinwire_in_lab
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Result, Results, measured
from benchmarks.tables import Table
from thinwire.plan import seconds_per_step
from thinwire.report import load_run

STEPS = 60
SAMPLES = 60_000  # in an epoch
RATES, HOSTS = ("100mbit", "20mbit"), 2
MINIBATCHES = (256, 512, 1024, 2048, 4096, 8192)
GRIDS = ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2))  # data, model
GRID_MINIBATCHES = (512, 4096)

# Speed is what is asked for; a small rate keeps the largest minibatches finite.
FLAGS = ("--optimizer.lr", "0.0003", "--exchange.start-samples", "0", "--checkpoint-every", "inf")


def flags(minibatch: int) -> list[str]:
    """Return those of ``thinwire train mnist-onebit``, for about STEPS steps."""
    epochs = max(1, round(STEPS * minibatch / SAMPLES))
    often = max(1, 2560 // minibatch)
    lengths = ["--minibatch", str(minibatch), "--epochs", str(epochs), "--log-every", str(often)]
    return [*lengths, *FLAGS, "--seed", "0"]


def double_buffer_key(rate: str, minibatch: int, buffered: bool) -> str:
    """Return under which a cell of Table 4 is stored."""
    return f"{HOSTS} hosts, {rate}, {minibatch}" + (", double-buffered" if buffered else "")


def grid_key(data: int, model: int, minibatch: int) -> str:
    """Return under which a cell of Table 5 is stored."""
    return f"{data} x {model}, {minibatch}"


def cells(_: Results) -> list[Cell]:
    """Return those of both tables."""
    found = [
        _cell(double_buffer_key(rate, n, buffered), n, rate, "--exchange.double-buffer", buffered)
        for rate in RATES
        for n in MINIBATCHES
        for buffered in (False, True)
    ]
    found += [
        _cell(grid_key(d, m, n), n, None, "--workers", d * m, "--model-parallel", m)
        for d, m in GRIDS
        for n in GRID_MINIBATCHES
    ]
    return found


def _cell(key: str, minibatch: int, rate: str | None, *more: object) -> Cell:
    words = ["mnist-onebit", *flags(minibatch), *map(str, more)]
    settings = {"minibatch": minibatch, "rate": rate, "words": words}
    return Cell(key, settings, measure, command="thinwire train " + " ".join(words))


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Train; return samples a second, their median and quartiles over stretches of the run."""
    with tempfile.TemporaryDirectory() as name:
        command = ["train", *settings["words"], "--out", name]
        if settings["rate"] is None:
            thinwire(command)
        else:
            thinwire_in_lab(HOSTS, settings["rate"], command)
        low, middle, high = statistics.quantiles(seconds_per_step(load_run(Path(name))), n=4)
    n = settings["minibatch"]
    return {"samples_per_second": [n / middle, n / high, n / low]}


def tables(results: Results) -> list[Table]:
    """Return S Tables 4 and 5 as measured here, once anything of them was."""
    both = double_buffer_table(measured(results)), grid_table(measured(results))
    return [table for table in both if table.rows]


def double_buffer_table(results: Results) -> Table:
    """Return samples/s by minibatch size; a line needs both of what it compares."""
    rows = []
    for rate in RATES:
        for n in MINIBATCHES:
            plain, buffered = (results.get(double_buffer_key(rate, n, b)) for b in (False, True))
            if plain and buffered:
                gain = _median(buffered) / _median(plain) - 1
                told = [_speed(plain), _speed(buffered), f"{100 * gain:+.0f} %"]
                rows.append([rate.replace("mbit", " Mbit/s"), f"{n:,}", *told])
    headings = ["wire", "N", "samples/s", "double-buffered", "gain"]
    return Table("Table 4, here: samples/s by minibatch size", headings, rows)


def grid_table(results: Results) -> Table:
    """Return samples/s by data x model."""
    rows = []
    for data, model in GRIDS:
        found = [results.get(grid_key(data, model, n)) for n in GRID_MINIBATCHES]
        if all(found):
            rows.append([f"{data} x {model}", *(_speed(run) for run in found if run)])
    headings = ["data x model", *(f"N = {n:,}" for n in GRID_MINIBATCHES)]
    return Table("Table 5, here: samples/s by data x model", headings, rows)


def _median(run: Result) -> float:
    return float(run.measures["samples_per_second"][0])


def _speed(run: Result) -> str:
    middle, low, high = run.measures["samples_per_second"]
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


BENCHMARK = Benchmark("speeds", "benchmarks.training.speeds", cells, tables, 20.0, ("minibatch",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
