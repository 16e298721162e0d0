"""Bandwidth of the kernels on a device, against the device's own copy in the same run.

    python -m benchmarks.kernels.device [--again] [--only sign] [--set device=cpu size=1M]

For each code and size: quantise-with-feedback, decoding, and the sum of 8 packets, as GB/s of what
has to move. With float32 gradients that is 12 bytes a value and the packet for quantising (gradient
and residual read, residual written), 4 bytes a value and the packets for the others. A copy moves 8
bytes a value. All take turns; figures are medians over rounds. On a GPU, events on its stream
enclose several calls, so that the host's part is hidden as long as the device has work.
"""

import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.command import main
from benchmarks.runner import Benchmark, Cell, CellError
from benchmarks.store import Results
from benchmarks.tables import Table, number, of_measures
from benchmarks.timing import Job, in_turns
from thinwire.kernels import active
from thinwire.quantize import Code, Columns, named_code

CODES = ("sign", "rotated", "2-bit", "4-bit", "8-bit")
SIZES = {"1M": 2**20, "16M": 2**24, "128M": 2**27}
COLUMN = 2048
PACKETS = 8  # in a sum
CALLS = 10  # between two events
FIGURES = {
    "copy_GB_per_s": ("copy GB/s", 0),
    "quantise_GB_per_s": ("quantise GB/s", 0),
    "quantise_of_copy": ("of copy", 2),
    "decode_GB_per_s": ("decode GB/s", 0),
    "decode_of_copy": ("of copy ", 2),
    "sum_GB_per_s": ("sum of 8 GB/s", 0),
    "sum_of_copy": ("of copy  ", 2),
}


@dataclass(frozen=True)
class Move:
    """A job, and how many bytes it cannot avoid to move."""

    job: Job
    size: int


def cells(_: Results) -> list[Cell]:
    """Return every code at two sizes that no cache holds."""
    return [
        Cell(
            f"{code}, {size}",
            {"code": code, "size": size, "device": "cuda", "repeats": 15},
            measure,
        )
        for code in CODES
        for size in ("16M", "128M")
    ]


def moves(code: Code, columns: Columns, gradient: Tensor, residual: Tensor) -> dict[str, Move]:
    """Return a copy and the code's kernels on the same buffers; quantising is in place."""
    n, packet = columns.values, code.payload_bytes(columns)
    payloads = list(torch.empty(PACKETS, packet, dtype=torch.uint8, device=gradient.device))
    for payload in payloads:
        code.encode(gradient, 1.0, residual, columns, residual, payload)
    out = torch.empty_like(gradient)
    return {
        "copy": Move(lambda: out.copy_(gradient), 8 * n),
        "quantise": Move(
            lambda: code.encode(gradient, 1.0, residual, columns, residual, payloads[0]),
            12 * n + packet,
        ),
        "decode": Move(lambda: code.decode(payloads[1], columns, out, False), 4 * n + packet),
        "sum": Move(lambda: code.sum(payloads, columns, out), 4 * n + PACKETS * packet),
    }


def seconds(job: Job, device: torch.device) -> float:
    """Return how long one of several calls takes, by the device's own clock where it is a GPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        job()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(CALLS):
        job()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / CALLS


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Time one code at one size on one device.

    Raises:
        CellError: the device is not here.
    """
    device = torch.device(settings["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CellError("no CUDA device is here")
    code, n = named_code(settings["code"]), SIZES[settings["size"]]
    columns = Columns.from_lengths([COLUMN] * (n // COLUMN)).to(device)
    work = moves(code, columns, *torch.randn(2, columns.values, device=device))
    times = in_turns(
        {name: move.job for name, move in work.items()},
        settings["repeats"],
        lambda job: seconds(job, device),
    )
    speed = {name: work[name].size / statistics.median(own) / 1e9 for name, own in times.items()}
    return {
        "kernels": active(device.type),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **{f"{name}_GB_per_s": figure for name, figure in speed.items()},
        **{f"{name}_of_copy": own / speed["copy"] for name, own in speed.items() if name != "copy"},
    }


def tables(results: Results) -> list[Table]:
    """Return all bandwidths, if there are any."""
    columns = {heading: number(name, digits) for name, (heading, digits) in FIGURES.items()}
    table = of_measures("Kernels on a device", results, columns)
    return [table] if table.rows else []


BENCHMARK = Benchmark("kernels-device", "benchmarks.kernels.device", cells, tables, 5.0, ("size",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
