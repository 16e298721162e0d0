"""Starting the workers of a benchmark: on this machine's loopback, or in the laboratory."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import lab


@dataclass(frozen=True)
class Place:
    """Where workers run.

    Attributes:
        workers: how many.
        rate: of the laboratory's wires, such as "100mbit" or "none"; None: not in the laboratory
            but as processes on this machine's loopback.
    """

    workers: int
    rate: str | None = None


def on_workers(
    measure: str,
    cells: Sequence[dict[str, Any]],
    place: Place,
    enter: Callable[[dict[str, Any]], None],
) -> str | None:
    """Let one start of the workers measure cells, one after another.

    Args:
        measure: "module:function", see ``benchmarks.worker``.
        cells: their settings.
        place: where the workers run.
        enter: is handed "wall" and "measures" of each cell that was finished, in order; of those
            before an interruption too.

    Returns:
        The error that ended the workers, or None.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "cells.json", Path(folder) / "results.jsonl"
        given.write_text(json.dumps(list(cells)), encoding="utf-8")
        command = ["-m", "benchmarks.worker", measure, "--cells", str(given), "--out", str(out)]
        try:
            return _on_loopback(command, place) if place.rate is None else _in_lab(command, place)
        finally:
            text = out.read_text(encoding="utf-8") if out.exists() else ""
            for line in text.splitlines(keepends=True):
                if line.endswith("\n"):
                    enter(json.loads(line))


def _on_loopback(command: Sequence[str], place: Place) -> str | None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(place.workers), *command, "--device", "none"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        launched = subprocess.Popen(
            torchrun, env=environment, stdout=words, stderr=words, start_new_session=True
        )
        try:
            code = launched.wait()
        finally:  # interrupted: the launcher ends its workers
            if launched.poll() is None:
                launched.terminate()
                launched.wait()
        words.seek(0)
        return reason(words) if code else None


def _in_lab(command: Sequence[str], place: Place) -> str | None:
    lines: list[str] = []
    with lab.lab(place.workers, place.rate or "none") as network:
        done = lab.run(network, command, say=lines.append)
    return reason(lines) if done.code else None


def reason(lines: Iterable[str]) -> str:
    """Return the first error that workers told; torchrun's own comes after it.

    >>> reason(["Traceback", "ValueError: lr", "...ChildFailedError:"])
    'ValueError: lr'
    """
    said = [line.strip() for line in lines if re.search(r"\w+Error: .", line)]
    return (said or ["no message"])[0]
