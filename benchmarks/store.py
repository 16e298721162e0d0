"""All results: one line of JSON for each measured cell, in ``benchmarks/results/NAME.jsonl``.

A line says what was measured (``key``, ``settings``, ``seed``), how (``command``), when, under what
load and for how long, and what came out: ``measures``, or an ``error``. A line ``{"machine": ...}``
describes the machine of the lines below it. Lines are only appended; of several lines with the same
key the last one counts. A last line that an interruption cut short is ignored.
"""

import datetime
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import thinwire
from thinwire.kernels import native

_ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("THINWIRE_RESULTS", _ROOT / "benchmarks" / "results"))
"""Where results are stored; THINWIRE_RESULTS names another folder, to try something."""
DOCS = Path(os.environ.get("THINWIRE_RESULTS", _ROOT / "docs"))
"""Where pages made of results are written."""

DIGITS = 9  # significant ones of a stored float; no clock here is better


@dataclass(frozen=True)
class Result:
    """One measured cell.

    Attributes:
        key: its name, unique within its benchmark.
        settings: all that it depends on, the seed apart.
        seed: of everything drawn.
        measures: what came out; empty if it failed.
        error: why it failed; None if it did not.
        command: what to type to measure it again.
        date: when it was stored, UTC.
        load: the machine's load average before and after.
        wall: seconds it took.
        machine: processors and versions.
    """

    key: str
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    measures: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    command: str = ""
    date: str = ""
    load: tuple[float, float] = (0.0, 0.0)
    wall: float = 0.0
    machine: dict[str, Any] = field(default_factory=dict, compare=False)


Results = Mapping[str, Result]
"""The results of one benchmark by key."""


def path_of(name: str) -> Path:
    """Return the file of a benchmark's results."""
    return FOLDER / f"{name}.jsonl"


def read(name: str) -> dict[str, Result]:
    """Return all results of a benchmark, in the order in which their keys came."""
    found: dict[str, Result] = {}
    machine: dict[str, Any] = {}
    for line in _lines(path_of(name)):
        told = json.loads(line)
        if "key" in told:
            found[told["key"]] = Result(**told, machine=machine)
        else:
            machine = told["machine"]
    return found


def measured(results: Results) -> dict[str, Result]:
    """Return those that did not fail."""
    return {key: result for key, result in results.items() if result.error is None}


def append(name: str, result: Result) -> None:
    """Store a result; its date is now and its machine this one."""
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = _lines(path)
    told = {key: value for key, value in asdict(result).items() if value not in ({}, None, "")}
    told["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    told.pop("machine", None)
    here = {"machine": machine()}
    machines = [line for line in lines if line.startswith('{"machine"')]
    new = [told] if machines and json.loads(machines[-1]) == here else [here, told]
    with path.open("a", encoding="utf-8") as file:
        file.truncate(sum(len(f"{line}\n".encode()) for line in lines))  # a line cut short goes
        for line in new:
            file.write(json.dumps(_rounded(line), separators=(",", ":")) + "\n")


def machine() -> dict[str, Any]:
    """Return what this machine is and which versions run on it."""
    return {
        "processors": os.cpu_count(),
        "processor": _processor(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "thinwire": thinwire.__version__,
        "kernels": native.instruction_sets()[-1] if native.available() else "reference",
    }


def machine_words(result: Result) -> str:
    """Return where a result comes from, in a line."""
    names = ("processors", "processor", "torch", "kernels")
    return ", ".join(f"{name} {result.machine[name]}" for name in names if name in result.machine)


def load() -> float:
    """Return the load average of the last minute: what else the machine was doing."""
    return round(os.getloadavg()[0], 2)


def _lines(path: Path) -> list[str]:
    """Whole lines only."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line.rstrip("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {str(key): _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
