"""S Tables 4 and 5 in our units: samples/s against minibatch size, and of data x model grids.

    python -m benchmarks.speeds            (12 minutes on two quiet cores; interrupted, it goes on)
    python -m benchmarks.speeds --show     (what is stored)

Needs root (``benchmarks.lab``) for Table 4: two hosts on thin wires, with and without double
buffering. Table 5: D x M workers on one machine, M of them share a model. Every cell is ``thinwire
train mnist-onebit`` of about STEPS steps; its speed is the median over stretches between step
events, with quartiles. Results go to benchmarks/results/speeds.json.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import lab, record
from benchmarks.planner_lab import thinwire_on
from thinwire.plan import seconds_per_step
from thinwire.report import load_run

NAME = "speeds"
STEPS = 60
SAMPLES = 60_000  # in an epoch
RATES, HOSTS = ("100mbit", "20mbit"), 2
MINIBATCHES = (256, 512, 1024, 2048, 4096, 8192)
GRIDS = ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2))  # data, model
GRID_MINIBATCHES = (512, 4096)

# Speed is what is asked for; a small rate keeps the largest minibatches finite.
FLAGS = ("--optimizer.lr", "0.0003", "--exchange.cold-start", "0", "--checkpoint-every", "inf")


def flags(minibatch: int) -> list[str]:
    """Of ``thinwire train mnist-onebit``, for about STEPS steps."""
    epochs = max(1, round(STEPS * minibatch / SAMPLES))
    often = max(1, 2560 // minibatch)
    lengths = ["--minibatch", str(minibatch), "--epochs", str(epochs), "--log-every", str(often)]
    return [*lengths, *FLAGS, "--seed", "0"]


def double_buffer_key(rate: str, minibatch: int, buffered: bool) -> str:
    """Under which a cell of Table 4 is stored."""
    return f"{HOSTS} hosts, {rate}, {minibatch}" + (", double-buffered" if buffered else "")


def grid_key(data: int, model: int, minibatch: int) -> str:
    """Under which a cell of Table 5 is stored."""
    return f"{data} x {model}, {minibatch}"


def measure() -> None:
    """Run what is not stored yet."""
    stored = record.read(NAME)["runs"]
    for rate in RATES:
        cells = {
            double_buffer_key(rate, n, buffered): [*flags(n), *_buffered(buffered)]
            for n in MINIBATCHES
            for buffered in (False, True)
        }
        todo = {key: words for key, words in cells.items() if key not in stored}
        if todo:
            with lab.lab(HOSTS, rate) as network:
                for key, words in todo.items():
                    _run(key, words, network)
    for data, model in GRIDS:
        for n in GRID_MINIBATCHES:
            if grid_key(data, model, n) not in stored:
                grid = ["--workers", str(data * model), "--model-parallel", str(model)]
                _run(grid_key(data, model, n), [*flags(n), *grid], None)


def _buffered(buffered: bool) -> list[str]:
    return ["--exchange.double-buffer", str(buffered)]


def _run(key: str, words: Sequence[str], network: lab.Network | None) -> None:
    print(key, flush=True)
    before = record.load()
    with tempfile.TemporaryDirectory() as name:
        command = ["train", "mnist-onebit", *words, "--out", name]
        if network is None:
            subprocess.run([sys.executable, "-m", "thinwire", *command], check=True)
        else:
            thinwire_on(network, *command)
        paces = seconds_per_step(load_run(Path(name)))
    low, middle, high = statistics.quantiles(paces, n=4)
    n = int(words[words.index("--minibatch") + 1])
    entry = {
        "command": f"thinwire train mnist-onebit {' '.join(words)}",
        "samples_per_second": [n / middle, n / high, n / low],  # median, quartiles
        "load": [before, record.load()],
    }
    record.enter(NAME, key, entry)


def double_buffer_rows(runs: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines of Table 4: samples/s by minibatch size."""
    header = ["wire", "N", "samples/s", "double-buffered", "gain"]
    rows = []
    for rate in RATES:
        for n in MINIBATCHES:
            plain, buffered = (runs.get(double_buffer_key(rate, n, both)) for both in (False, True))
            if plain and buffered:
                gain = buffered["samples_per_second"][0] / plain["samples_per_second"][0] - 1
                told = [_speed(plain), _speed(buffered), f"{100 * gain:+.0f} %"]
                rows.append([rate.replace("mbit", " Mbit/s"), f"{n:,}", *told])
    return header, rows


def grid_rows(runs: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines of Table 5: samples/s by data x model."""
    header = ["data x model", *(f"N = {n:,}" for n in GRID_MINIBATCHES)]
    rows = []
    for data, model in GRIDS:
        found = [runs.get(grid_key(data, model, n)) for n in GRID_MINIBATCHES]
        if all(found):
            rows.append([f"{data} x {model}", *(_speed(run) for run in found if run)])
    return header, rows


def _speed(run: Mapping[str, Any]) -> str:
    middle, low, high = run["samples_per_second"]
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def main() -> int:
    """Measure what is missing; print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    if not parser.parse_args().show:
        measure()
    runs = record.read(NAME)["runs"]
    for header, rows in (double_buffer_rows(runs), grid_rows(runs)):
        print(record.markdown(header, rows), end="\n\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.LabError as error:
        print(f"speeds: {error}", file=sys.stderr)
        sys.exit(2)
