"""Time of the kernels as ratios to a memory-bound primitive of the same run.

    python -m benchmarks.kernels [--again] [--only sign] [--set repeats=3]

For each code, size and number of threads: quantise-with-feedback (add the residual, levels and
packed values of each column, new residual) and decode-and-add, over ``residual.add_(gradient)`` on
the same buffers, and the eager reference over the same. Ratios are medians over repeats of the
ratio within one repeat, in which all take turns, so that drift of the machine cancels.
"""

import statistics
import sys
from types import ModuleType
from typing import Any

import torch

from benchmarks.command import main
from benchmarks.runner import Benchmark, Cell, CellError
from benchmarks.store import Results
from benchmarks.tables import Table, number, of_measures
from benchmarks.timing import Job, in_turns, ratios
from thinwire.kernels import FAMILIES, native, reference
from thinwire.quantize import Columns

CODES = {"sign": 1, "rotated": 1, "2-bit": 2, "4-bit": 4, "8-bit": 8}  # bits a value
SIZES = {"1M": 2**20, "16M": 2**24, "46M": 46_000_000}
COLUMN = 2048
FIGURES = {
    "add_GB_per_s": "add GB/s",
    "quantise_over_add": "quantise / add",
    "decode_over_add": "decode-and-add / add",
    "eager_quantise_over_add": "eager quantise / add",
    "eager_decode_over_add": "eager decode / add",
    "eager_quantise_over_native": "eager / native quantise",
}


def cells(_: Results) -> list[Cell]:
    """Return every code at every size with one and two threads."""
    return [
        Cell(
            f"{code}, {size}, {threads} threads",
            {"code": code, "size": size, "threads": threads, "repeats": 15},
            measure,
        )
        for code in CODES
        for size in SIZES
        for threads in (1, 2)
    ]


def medians(work: dict[str, Job], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return median seconds of each, and the median of its ratio to "add" within each round."""
    times = in_turns(work, repeats)
    over_add = {name: statistics.median(ratios(own, times["add"])) for name, own in times.items()}
    return {name: statistics.median(own) for name, own in times.items()}, over_add


def jobs(
    kernels: ModuleType, code: str, columns: Columns, gradient: torch.Tensor, residual: torch.Tensor
) -> dict[str, Job]:
    """Return the primitive and the code's two kernels, all on the same buffers."""
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


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Time one code at one size.

    Raises:
        CellError: the C++ kernels are missing.
    """
    if not native.available():
        raise CellError("the C++ kernels are not built: see `thinwire doctor`")
    torch.set_num_threads(settings["threads"])
    code, values = settings["code"], SIZES[settings["size"]]
    columns = Columns.from_lengths([COLUMN] * (values // COLUMN))
    if CODES[code] > 1:
        columns = columns.runs  # which share levels in these codes
    buffers = torch.randn(columns.values), torch.randn(columns.values)
    seconds, own = medians(jobs(native, code, columns, *buffers), settings["repeats"])
    few = 1 if values > 2**21 else 3
    eager_seconds, eager = medians(jobs(reference, code, columns, *buffers), few)
    return {
        "add_GB_per_s": 12 * columns.values / seconds["add"] / 1e9,
        "quantise_over_add": own["quantise"],
        "decode_over_add": own["decode"],
        "eager_quantise_over_add": eager["quantise"],
        "eager_decode_over_add": eager["decode"],
        "eager_quantise_over_native": eager_seconds["quantise"] / seconds["quantise"],
    }


def tables(results: Results) -> list[Table]:
    """Return all ratios."""
    columns = {heading: number(name) for name, heading in FIGURES.items()}
    return [of_measures("Kernels", results, columns)]


BENCHMARK = Benchmark("kernels", "benchmarks.kernels", cells, tables, 10.0, ("size",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
