"""What every stored result says about how it came about: machine, versions, date, command, load."""

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

import thinwire
from thinwire.kernels import native

RESULTS = Path(os.environ.get("THINWIRE_RESULTS", Path(__file__).parent / "results"))
"""Where results are stored; THINWIRE_RESULTS names another folder, to try something."""


def machine() -> dict[str, Any]:
    """Where it ran, and on what."""
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


def load() -> float:
    """The load average of the last minute: what else the machine was doing."""
    return round(os.getloadavg()[0], 2)


def now() -> str:
    """Date and time, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest, largest.

    >>> spread([3.0, 1.0, 2.0])
    (2.0, 1.0, 3.0)
    """
    return statistics.median(values), min(values), max(values)


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and from the smallest to the largest.

    >>> mean_and_spread([1.0, 2.0, 3.3])
    '2.10 (1.00 to 3.30)'
    """
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read(name: str) -> dict[str, Any]:
    """What ``results/NAME.json`` holds so far."""
    path = RESULTS / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"machine": {}, "runs": {}}


def enter(name: str, key: str, run: dict[str, Any]) -> None:
    """Add one run to ``results/NAME.json``, or replace the one of this key."""
    results = read(name)
    results["machine"] = machine()
    results["runs"][key] = {"date": now(), **run}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(results, indent=1, sort_keys=False) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
