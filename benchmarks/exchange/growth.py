"""What one worker pays as workers are added: bytes, memory, time of quantising and decoding.

    python -m benchmarks.exchange.growth [--again]      (1 minute)

Bytes and memory are measured with 2 to 16 real workers on this machine's loopback: bytes by the
ledger and by the kernel (what all workers put on the loopback interface, divided by their number;
what they receive is the same), beside those of a sparse code whose packets all workers gather,
memory as the growth of the process's peak resident size over making the state and exchanging with
it. Time is that of one worker's arithmetic alone, without a network, up to 1024 workers, so that
the number of processors here does not matter: its packets stand in for those of its peers, which
are as long. What there are not enough processors for, the planner says (``thinwire.plan``): bytes
of one worker up to 1024, from the code that makes the packets, and seconds of its exchange by wire.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.command import main
from benchmarks.lab import own_counters
from benchmarks.launch import Place
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Result, Results
from benchmarks.tables import Table
from benchmarks.timing import Job, in_turns, mean_over_workers, spread
from benchmarks.training.peers import ChosenOfEach4096
from thinwire.exchange import Ledger, TwoStage, shared_wire
from thinwire.plan import ETHERNET_GOODPUT, Link, Network
from thinwire.plan.units import parse_rate
from thinwire.plan.wire_format import bucket_bytes
from thinwire.quantize import Columns, SignCode

VALUES, REPEATS = 2**23, 7
REAL = (2, 3, 4, 5, 6, 7, 8, 16)
SPARSE = 64  # values kept of each 4096
SIMULATED = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
COLUMN = 2048
EXCHANGES = 3
PARTS = ("quantise", "sum", "requantise", "decode")
RATES = ("100mbit/s", "1gbit/s")
LATENCY = 50e-6  # seconds, the planner's own where no network was measured


def real_key(world: int) -> str:
    """Return under which bytes and memory of real workers are stored."""
    return f"{world} workers"


def cells(_: Results) -> list[Cell]:
    """Return one for each number of real workers, and the arithmetic."""
    of_module = "benchmarks.exchange.growth:real"
    found = [Cell(real_key(k), {"values": VALUES}, of_module, Place(k)) for k in REAL]
    return [*found, Cell("arithmetic", {"values": VALUES, "repeats": REPEATS}, simulated)]


def columns_of(values: int) -> Columns:
    """Return those of one matrix with rows of 2048."""
    return Columns.from_lengths([COLUMN] * (values // COLUMN))


def peak_bytes(reset: bool = False) -> int:
    """Return the process's largest resident size since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def real(settings: dict[str, Any]) -> dict[str, float]:
    """Return bytes and memory of one of the real workers, means over them and some exchanges."""
    rank, world = dist.get_rank(), dist.get_world_size()
    gradient = torch.randn(settings["values"])
    dist.all_reduce(torch.ones(1))  # connections and their buffers are not the exchange's
    before = peak_bytes(reset=True)
    ledger, code = Ledger(), SignCode()
    wire, exchange = (
        shared_wire(None, ledger),
        TwoStage(columns_of(settings["values"]), rank, world),
    )
    dist.barrier()
    sent = own_counters("lo")
    for _ in range(EXCHANGES):
        exchange.reduce(code, 1.0, wire, "gradients", gradient=gradient)
        exchange.worker.commit()
        exchange.distribute(code, gradient, wire, "updates")
        exchange.owner.commit()
    dist.barrier()
    kernel = (own_counters("lo") - sent).tx_payload
    memory = mean_over_workers(peak_bytes() - before)
    ledger_bytes = mean_over_workers(ledger.total().bytes) / EXCHANGES
    gather = ChosenOfEach4096(SPARSE)
    dist.barrier()
    sent = own_counters("lo")
    gather(gradient)
    dist.barrier()
    return {
        "memory_bytes": memory,
        "ledger_bytes": ledger_bytes,
        "kernel_bytes": kernel / world / EXCHANGES,
        "sparse_bytes": (own_counters("lo") - sent).tx_payload / world,
    }


def parts_of(exchange: TwoStage, world: int) -> dict[str, Job]:
    """Return one worker's four computations; its own packets stand in for its peers'."""
    code, out = SignCode(), torch.empty(exchange.columns.values)
    gradient = torch.randn(exchange.columns.values)
    state: dict[str, torch.Tensor] = {}

    def quantise() -> None:
        packets = exchange.new_packets(code)
        exchange.quantise(code, 1.0, packets, gradient)
        state["sent"] = packets[exchange.rank]

    def add() -> None:
        exchange.sum(code, [state["sent"]] * world)

    def requantise() -> None:
        state["update"] = exchange.new_update(code)
        exchange.requantise(code, state["update"])

    def decode() -> None:
        for owner in range(world):
            exchange.decode(code, owner, state["update"], out)

    return dict(zip(PARTS, (quantise, add, requantise, decode), strict=True))


def simulated(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of each computation for each number of workers, taken in turns."""
    torch.set_num_threads(1)
    columns = columns_of(settings["values"])
    work = {k: parts_of(TwoStage(columns, 0, k), k) for k in SIMULATED}
    times = in_turns(
        {(k, name): job for k, parts in work.items() for name, job in parts.items()},
        settings["repeats"],
    )
    return {str(k): {name: spread(times[k, name]) for name in PARTS} for k in SIMULATED}


def planned(values: int) -> dict[int, dict[str, Any]]:
    """Return what the planner says of one exchange: bytes a worker sends, seconds on each wire."""
    shapes = [(values // COLUMN, COLUMN)]
    links = {rate: Network(Link(parse_rate(rate) * ETHERNET_GOODPUT, LATENCY)) for rate in RATES}
    rows = {}
    for world in sorted({*REAL, *SIMULATED}):
        sent = {code: bucket_bytes(shapes, code, world) for code in ("sign", "float32")}
        rows[world] = {
            "bytes": {code: of_code.total for code, of_code in sent.items()},
            "seconds": {
                rate: {
                    code: net.all_to_all(of_code.gradients, world)
                    + net.all_gather(of_code.packet, world)
                    for code, of_code in sent.items()
                }
                for rate, net in links.items()
            },
        }
    return rows


def real_results(results: Results) -> dict[int, Result]:
    """Return the stored measurements of real workers by their number."""
    found = {k: results.get(real_key(k)) for k in REAL}
    return {k: result for k, result in found.items() if result is not None and result.measures}


def tables(results: Results) -> list[Table]:
    """Return what was measured, planned and timed."""
    found, plan = real_results(results), planned(VALUES)
    titles: list[tuple[str, tuple[str, ...], Callable[[], list[list[str]]]]] = [
        (
            "one exchange, one worker",
            (
                "workers",
                "MB by ledger",
                "MB by kernel",
                "MB planned",
                "MB of memory",
                f"MB by kernel, {SPARSE} of each 4096 gathered",
            ),
            lambda: [[str(k), *_measured(run.measures, plan[k])] for k, run in found.items()],
        ),
        (
            "planned",
            ("workers", "MB, 1 bit", *RATES, "dense, times as long"),
            lambda: [[str(k), *_planned(row)] for k, row in plan.items()],
        ),
        (
            "ms of one worker's arithmetic, medians",
            ("workers", *PARTS, "all"),
            lambda: [[k, *_timed(row)] for k, row in results["arithmetic"].measures.items()],
        ),
    ]
    if not found or "arithmetic" not in results:
        return []
    return [Table(title, headings, lines()) for title, headings, lines in titles]


def _measured(row: dict[str, float], plan: dict[str, Any]) -> list[str]:
    names = ("ledger_bytes", "kernel_bytes", "memory_bytes", "sparse_bytes")
    ledger, kernel, memory, sparse = (row.get(name, math.nan) for name in names)
    figures = (ledger, kernel, plan["bytes"]["sign"], memory, sparse)
    return [f"{figure / 1e6:.3f}" if math.isfinite(figure) else "-" for figure in figures]


def _planned(row: dict[str, Any]) -> list[str]:
    seconds = row["seconds"]
    times = [f"{seconds[rate]['float32'] / seconds[rate]['sign']:.1f}" for rate in RATES]
    ms = [f"{1e3 * seconds[rate]['sign']:.1f} ms" for rate in RATES]
    return [f"{row['bytes']['sign'] / 1e6:.3f}", *ms, " / ".join(times)]


def _timed(row: dict[str, Any]) -> list[str]:
    medians = [1e3 * row[name][0] for name in PARTS]
    return [f"{ms:.2f}" for ms in (*medians, sum(medians))]


BENCHMARK = Benchmark("growth", "benchmarks.exchange.growth", cells, tables, 10.0)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
