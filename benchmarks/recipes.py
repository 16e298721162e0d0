"""Cells that are runs of ``thinwire train``, as a user starts them, and what is kept of each.

A run has a folder of its own below runs/, so one that was interrupted goes on where it stopped.
"""

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import lab
from benchmarks.runner import Cell, CellError
from thinwire.report import load_run, price_rows
from thinwire.report.run import Run, number

RUNS = Path("runs")
POINT = ("step", "epoch", "communications", "bytes_sent", "seconds")
SCORES = ("train_loss", "train_error", "test_loss", "test_error")
TOTALS = ("workers", "params", "steps", "seconds", "bytes_sent_per_worker", *SCORES)


@dataclass(frozen=True)
class Recipe:
    """One run.

    Attributes:
        benchmark: the name of its results.
        key: its own name.
        recipe: of ``thinwire train``.
        flags: further arguments; "{model}" stands for the folder of ``start``.
        seed: of everything.
        start: the run whose model this one begins with.
    """

    benchmark: str
    key: str
    recipe: str
    flags: tuple[str, ...]
    seed: int = 0
    start: "Recipe | None" = None

    @property
    def folder(self) -> Path:
        """The run folder; another one when what is typed changes.

        >>> Recipe("tables", "ReLU, + 1-bit, seed 0", "mnist-onebit", ()).folder.as_posix()
        'runs/tables/relu-1-bit-seed-0-f63917d7'
        """
        digest = hashlib.sha256(" ".join(self.words).encode()).hexdigest()[:8]
        name = re.sub(r"[^a-z0-9.]+", "-", self.key.lower()).strip("-")
        return RUNS / self.benchmark / f"{name}-{digest}"

    @property
    def words(self) -> list[str]:
        """What is typed after ``thinwire train``, but for the run's own folder."""
        start = "" if self.start is None else str(self.start.folder)
        flags = [flag.replace("{model}", start) for flag in self.flags]
        return [self.recipe, *flags, "--seed", str(self.seed)]

    def cell(self, curve: bool = False) -> Cell:
        """Return the cell; with ``curve`` the whole run is kept, not only its end."""
        return Cell(
            self.key,
            {"recipe": self.recipe, "flags": list(self.flags)},
            lambda told: replace(self, flags=tuple(told["flags"])).measure(curve),
            seed=self.seed,
            command="thinwire train " + " ".join(self.words),
        )

    def measure(self, curve: bool) -> dict[str, Any]:
        """Train, before it the model it begins with if that is gone; return what is kept.

        Raises:
            CellError: ``thinwire train`` failed; with its last words.
        """
        if self.start is not None and not (self.start.folder / "model.safetensors").exists():
            self.start.measure(curve=False)
        thinwire(["train", *self.words, "--out", str(self.folder)])
        run = load_run(self.folder)
        return {**totals(run), **(course(run) if curve else {})}


def totals(run: Run) -> dict[str, Any]:
    """Return the figures of a run's end."""
    return {name: number(run.result, name) for name in TOTALS}


def course(run: Run) -> dict[str, Any]:
    """Return a run's curve and what it took to reach each training error."""
    curve = [
        {name: number(event, name) for name in (*POINT, *SCORES)}
        for event in run.epochs
        if number(event, "test_error") is not None
    ]
    prices = [
        {key: value for key, value in row.items() if key != "run"}
        for row in price_rows([run])
        if row["iterations"] is not None
    ]
    return {"curve": curve, "reached": prices}


def thinwire(words: Sequence[str]) -> None:
    """Run ``thinwire WORDS`` on this machine.

    Raises:
        CellError: it failed; with its last words.
    """
    command = [sys.executable, "-m", "thinwire", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CellError(said[-1] if said else f"exit code {done.returncode}")


def thinwire_in_lab(hosts: int, rate: str, words: Sequence[str]) -> None:
    """Run ``thinwire WORDS`` on every host of a laboratory.

    Raises:
        CellError: it failed; with its last words.
    """
    lines: list[str] = []
    with lab.lab(hosts, rate) as network:
        done = lab.run(network, ["-m", "thinwire", *words], say=lines.append)
    if done.code:
        raise CellError(lines[-1] if lines else f"exit code {done.code}")
