"""Time of the kernels as ratios to a memory-bound primitive of the same run.

    python benchmarks/kernels.py [--codes sign rotated] [--repeats 15] [--json FILE]

For each code, size and number of threads: quantise-with-feedback (add the residual, levels and
packed values of each column, new residual) and decode-and-add, over ``residual.add_(gradient)`` on
the same buffers, and the eager reference over the same. Ratios are medians over interleaved repeats
of the ratio within one repeat, so that drift of the machine cancels. Absolute times are printed for
orientation only.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from rich.console import Console
from rich.table import Table

from thinwire.kernels import FAMILIES, native, reference
from thinwire.quantize import Columns

CODES = {"sign": 1, "rotated": 1, "2-bit": 2, "4-bit": 4, "8-bit": 8}  # bits a value
SIZES = {"1M": 2**20, "16M": 2**24, "46M": 46_000_000}
COLUMN = 2048

Job = Callable[[], object]


def interleaved_medians(
    work: dict[str, Job], repeats: int
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


def jobs(
    kernels: ModuleType, code: str, columns: Columns, gradient: torch.Tensor, residual: torch.Tensor
) -> dict[str, Job]:
    """The primitive and the code's two kernels, all on the same buffers."""
    add: dict[str, Job] = {"add": lambda: residual.add_(gradient)}
    bits = CODES[code]
    family = FAMILIES["uniform" if bits > 1 else code]
    if family.layout_rows == 3:
        table, shape = columns.block_table, (columns.blocks,)
    else:
        table, shape = columns.packed_table(bits), (columns.groups, 2)
    levels = torch.empty(shape, dtype=torch.bfloat16)
    packed = torch.empty(4 * columns.packed_words(bits), dtype=torch.uint8)
    encode = (gradient, 1.0, residual, table, bits, gradient, levels, packed)
    decode = (levels, packed, table, bits, residual, True)
    return add | {
        "quantise": lambda: kernels.KERNELS[f"{family.name}_encode"](*encode),
        "decode": lambda: kernels.KERNELS[f"{family.name}_decode"](*decode),
    }


def measure(code: str, values: int, threads: int, repeats: int) -> dict[str, float | str | int]:
    """One row of the table."""
    torch.set_num_threads(threads)
    columns = Columns.from_lengths([COLUMN] * (values // COLUMN))
    gradient, residual = torch.randn(columns.values), torch.randn(columns.values)
    seconds, ratios = interleaved_medians(jobs(native, code, columns, gradient, residual), repeats)
    eager_seconds, eager = interleaved_medians(
        jobs(reference, code, columns, gradient, residual), 1 if values > 2**21 else 3
    )
    return {
        "code": code,
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
    parser.add_argument("--codes", nargs="+", choices=CODES, default=[*CODES])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if not native.available():
        raise SystemExit("the C++ kernels are not built: see `thinwire doctor`")
    rows = [
        measure(code, SIZES[size], threads, arguments.repeats)
        for code in arguments.codes
        for size in arguments.sizes
        for threads in (1, 2)
    ]
    table = Table(title=f"kernels: {native.instruction_sets()[-1]}, torch {torch.__version__}")
    for name in ("code", "values", "threads", "add GB/s", "quantise / add", "decode-and-add / add"):
        table.add_column(name, justify="right")
    for name in ("eager quantise / add", "eager decode / add", "eager / native quantise"):
        table.add_column(name, justify="right")
    for row in rows:
        code, values, threads, *figures = row.values()
        table.add_row(code, f"{values:,}", str(threads), *(f"{figure:.2f}" for figure in figures))
    Console(width=140).print(table)
    if arguments.json:
        machine = {"processors": os.cpu_count(), "machine": platform.machine()}
        versions = {"torch": torch.__version__, "isa": native.instruction_sets()[-1]}
        record = {**machine, **versions, "repeats": arguments.repeats, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
