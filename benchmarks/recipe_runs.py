"""Runs of ``thinwire train``, as a user starts them, and what is kept of each.

A cell is a recipe with flags and a seed. It runs in a folder of its own below runs/, so a run that
was interrupted goes on where it stopped; what is stored in results/NAME.json is not repeated. One
that fails is stored with its error, shown as such, and tried again the next time.
"""

import hashlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from thinwire.report import load_run, price_rows
from thinwire.report.run import Run, number

RUNS = Path("runs")
POINT = ("step", "epoch", "communications", "bytes_sent", "seconds")
SCORES = ("train_loss", "train_error", "test_loss", "test_error")


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        key: its name in the results.
        recipe: of ``thinwire train``.
        flags: further arguments; "{model:KEY}" stands for the model that another cell made.
        seed: of everything.
    """

    key: str
    recipe: str
    flags: tuple[str, ...]
    seed: int

    @property
    def words(self) -> list[str]:
        """What is typed after ``thinwire train``, folders apart."""
        return [self.recipe, *self.flags, "--seed", str(self.seed)]

    @property
    def starts_from(self) -> list[str]:
        """Keys of the cells whose models it needs."""
        return [key for flag in self.flags for key in re.findall(r"\{model:(.*)\}", flag)]


def folder_of(name: str, cell: Cell) -> Path:
    """The run folder of a cell; another one when its words change.

    >>> folder_of("tables", Cell("ReLU, + 1-bit, seed 0", "mnist-onebit", (), 0)).as_posix()
    'runs/tables/relu-1-bit-seed-0-f63917d7'
    """
    words = hashlib.sha256(" ".join(cell.words).encode()).hexdigest()[:8]
    return RUNS / name / f"{re.sub(r'[^a-z0-9.]+', '-', cell.key.lower()).strip('-')}-{words}"


def run_all(name: str, cells: Mapping[str, Cell], guess: float) -> dict[str, Any]:
    """Run what is missing in ``results/NAME.json``, in order; all that is stored.

    Args:
        name: of the results.
        cells: by key, those that others start from first.
        guess: seconds a cell takes, until the first has been measured.
    """
    todo = missing(name, cells)
    for place, cell in enumerate(todo):
        minutes = seconds_left(name, todo[place:], guess) / 60
        print(f"{place + 1}/{len(todo)} {cell.key}; about {minutes:.0f} minutes left", flush=True)
        entry = measure(name, cell, cells)
        if "error" in entry:
            print(f"  {entry['error']}", flush=True)
        record.enter(name, cell.key, entry)
    runs = record.read(name)["runs"]
    return {key: runs[key] for key in cells if key in runs}


def missing(name: str, cells: Mapping[str, Cell]) -> list[Cell]:
    """Those that are not stored with the same words, or only with an error."""
    runs = record.read(name)["runs"]

    def stored(cell: Cell) -> bool:
        run = runs.get(cell.key, {"error": ""})
        return "error" not in run and run["words"] == cell.words

    return [cell for cell in cells.values() if not stored(cell)]


def seconds_left(name: str, todo: Sequence[Cell], guess: float) -> float:
    """How long these will take, judged by the stored ones of the same recipe."""
    runs = [run for run in record.read(name)["runs"].values() if "wall" in run]

    def expected(cell: Cell) -> float:
        known = [run["wall"] for run in runs if run["words"][0] == cell.recipe]
        return statistics.median(known) if known else guess

    return sum(map(expected, todo))


def measure(name: str, cell: Cell, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """Run one, the models it starts from first if they are gone; what is to be stored."""
    for key in cell.starts_from:
        if not (folder_of(name, cells[key]) / "model.safetensors").exists():
            before = train(name, cells[key], cells)
            if before is not None:
                return {"words": cell.words, "error": f"{key}: {before}"}
    load, started = record.load(), time.monotonic()
    error = train(name, cell, cells)
    wall = round(time.monotonic() - started, 1)
    entry: dict[str, Any] = {
        "words": cell.words,
        "command": "thinwire train " + " ".join(typed(name, cell, cells)),
        "load": [load, record.load()],
    }
    if error is not None:
        return {**entry, "error": error}
    return {**entry, "wall": wall, **told(load_run(folder_of(name, cell)))}


def typed(name: str, cell: Cell, cells: Mapping[str, Cell]) -> list[str]:
    """A cell's words, with the run folders of the models it starts from."""
    return [
        re.sub(r"\{model:(.*)\}", lambda found: str(folder_of(name, cells[found[1]])), word)
        for word in cell.words
    ]


def train(name: str, cell: Cell, cells: Mapping[str, Cell]) -> str | None:
    """Let ``thinwire train`` do it; its last words if it fails."""
    command = [sys.executable, "-m", "thinwire", "train", *typed(name, cell, cells)]
    command += ["--out", str(folder_of(name, cell))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[-1] if said else f"exit code {done.returncode}"


def told(run: Run) -> dict[str, Any]:
    """What of a run is kept: its summary's figures, curve, thresholds and breakdown of steps."""
    result = run.result
    curve = [
        {name: number(event, name) for name in (*POINT, *SCORES)}
        for event in run.epochs
        if number(event, "test_error") is not None
    ]
    names = ("workers", "params", "steps", "seconds", "bytes_sent_per_worker", *SCORES)
    return {
        **{name: number(result, name) for name in names},
        "curve": curve,
        "reached": [
            {key: value for key, value in row.items() if key != "run"}
            for row in price_rows([run])
            if row["iterations"] is not None
        ],
    }
