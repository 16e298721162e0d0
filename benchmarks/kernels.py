"""Time of the kernels as ratios to a memory-bound primitive of the same run.

    python benchmarks/kernels.py [--repeats 15] [--json FILE]

For each size and number of threads: quantise-with-feedback (add the residual, two means a column,
signs, new residual) and decode-and-add, over ``residual.add_(gradient)`` on the same buffers, and
the eager reference over the same. Times are medians of interleaved repeats, so that drift of the
machine cancels in the ratios. Absolute times are printed for orientation only.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from thinwire.kernels import native, reference
from thinwire.quantize import Columns

SIZES = {"1M": 2**20, "16M": 2**24, "46M": 46_000_000}
COLUMN = 2048


def interleaved_medians(
    work: dict[str, Callable[[], object]], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each, and median of the ratio to "add" within each round."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for round_number in range(repeats + 1):
        for name, job in work.items():
            started = time.perf_counter()
            job()
            if round_number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    ratios = {
        name: statistics.median(t / a for t, a in zip(own, times["add"], strict=True))
        for name, own in times.items()
    }
    return {name: statistics.median(own) for name, own in times.items()}, ratios


def measure(values: int, threads: int, repeats: int) -> dict[str, float | str | int]:
    """One row of the table."""
    torch.set_num_threads(threads)
    columns = Columns.from_lengths([COLUMN] * (values // COLUMN))
    gradient, residual = torch.randn(columns.values), torch.randn(columns.values)
    levels = torch.empty(columns.groups, 2, dtype=torch.bfloat16)
    bits = torch.empty(4 * columns.words, dtype=torch.uint8)
    encode = (gradient, 1.0, residual, columns.table, gradient, levels, bits)
    decode = (levels, bits, columns.table, residual, True)
    seconds, ratios = interleaved_medians(
        {
            "add": lambda: residual.add_(gradient),
            "quantise": lambda: native.sign_encode(*encode),
            "decode": lambda: native.sign_decode(*decode),
        },
        repeats,
    )
    eager_seconds, eager = interleaved_medians(
        {
            "add": lambda: residual.add_(gradient),
            "quantise": lambda: reference.sign_encode(*encode),
            "decode": lambda: reference.sign_decode(*decode),
        },
        1 if values > 2**21 else 3,
    )
    return {
        "values": columns.values,
        "threads": threads,
        "add_GB_per_s": 12 * columns.values / seconds["add"] / 1e9,
        "quantise_over_add": ratios["quantise"],
        "decode_over_add": ratios["decode"],
        "eager_quantise_over_add": eager["quantise"],
        "eager_decode_over_add": eager["decode"],
        "eager_quantise_over_native": eager_seconds["quantise"] / seconds["quantise"],
    }


def main() -> None:
    """Print the table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if not native.available():
        raise SystemExit("the C++ kernels are not built: see `thinwire doctor`")
    rows = [
        measure(size, threads, arguments.repeats) for size in SIZES.values() for threads in (1, 2)
    ]
    table = Table(title=f"kernels: {native.instruction_sets()[-1]}, torch {torch.__version__}")
    for name in ("values", "threads", "add GB/s", "quantise / add", "decode-and-add / add"):
        table.add_column(name, justify="right")
    for name in ("eager quantise / add", "eager decode / add", "eager / native quantise"):
        table.add_column(name, justify="right")
    for row in rows:
        values, threads, *figures = row.values()
        table.add_row(f"{values:,}", str(threads), *(f"{figure:.2f}" for figure in figures))
    Console(width=130).print(table)
    if arguments.json:
        machine = {"processors": os.cpu_count(), "machine": platform.machine()}
        versions = {"torch": torch.__version__, "isa": native.instruction_sets()[-1]}
        record = {**machine, **versions, "repeats": arguments.repeats, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
