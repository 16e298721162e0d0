"""What one worker pays as workers are added: bytes, memory, time of quantising and decoding.

    python -m benchmarks.growth [--values 8388608] [--repeats 7] [--show]      (about 3 minutes)

Bytes and memory are measured with 2 to 8 real workers on this machine's loopback: bytes by the
ledger and by the kernel (what all workers put on the loopback interface, divided by their number),
memory as the growth of the process's peak resident size over making the state and exchanging with
it. Time is that of one worker's arithmetic alone, without a network, up to 1024 workers, so that
the number of processors here does not matter: its packets stand in for those of its peers, which
are as long. What there are not enough processors for, the planner says (``thinwire.plan``): bytes
of one worker up to 1024, from the code that makes the packets, and seconds of its exchange by wire.
Where both are known they stand beside each other. Results go to benchmarks/results/growth.json.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table

from benchmarks import record
from benchmarks.lab import own_counters
from thinwire.exchange import Ledger, TwoStage, Wire
from thinwire.plan import ETHERNET_GOODPUT, Link, Network
from thinwire.plan.units import parse_rate
from thinwire.plan.wire_format import bucket_bytes
from thinwire.quantize import Columns, SignCode

NAME = "growth"
REAL = (2, 3, 4, 5, 6, 7, 8)
SIMULATED = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
COLUMN = 2048
EXCHANGES = 3
PARTS = ("quantise", "sum", "requantise", "decode")
RATES = ("100mbit/s", "1gbit/s")
LATENCY = 50e-6  # seconds, the planner's own where no network was measured


def columns_of(values: int) -> Columns:
    """One matrix with rows of 2048."""
    return Columns.from_lengths([COLUMN] * (values // COLUMN))


def peak_bytes(reset: bool = False) -> int:
    """The process's largest resident size since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def be_worker(values: int, out: Path) -> None:
    """Some exchanges among real workers; worker 0 writes bytes and memory of one worker."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    gradient = torch.randn(values)
    dist.all_reduce(torch.ones(1))  # connections and their buffers are not the exchange's
    before = peak_bytes(reset=True)
    ledger, code = Ledger(), SignCode()
    wire, exchange = Wire(None, ledger), TwoStage(columns_of(values), rank, world)
    dist.barrier()
    sent = own_counters("lo")
    for _ in range(EXCHANGES):
        exchange.reduce(code, 1.0, wire, "gradients", gradient=gradient)
        exchange.worker.commit()
        exchange.distribute(code, gradient, wire, "updates")
        exchange.owner.commit()
    dist.barrier()
    kernel = (own_counters("lo") - sent).tx_payload
    memory = torch.tensor(float(peak_bytes() - before), dtype=torch.float64)
    booked = torch.tensor(float(ledger.total().bytes), dtype=torch.float64)
    dist.all_reduce(memory)
    dist.all_reduce(booked)
    if rank == 0:
        row = {
            "ledger_bytes": booked.item() / world / EXCHANGES,
            "kernel_bytes": kernel / world / EXCHANGES,
            "memory_bytes": memory.item() / world,
        }
        out.write_text(json.dumps(row), encoding="utf-8")
    dist.destroy_process_group()


def real(values: int) -> dict[str, Any]:
    """Bytes and memory for each number of real workers."""
    rows = {}
    for world in REAL:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "row.json"
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(world), "-m", "benchmarks.growth"]
            command += ["--values", str(values), "--out", str(out)]
            environment = {"OMP_NUM_THREADS": "1", **os.environ}
            subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
            rows[str(world)] = json.loads(out.read_text(encoding="utf-8"))
    return rows


def planned(values: int) -> dict[str, Any]:
    """What the planner says of one exchange: bytes a worker sends, seconds on each wire."""
    shapes = [(values // COLUMN, COLUMN)]
    links = {rate: Network(Link(parse_rate(rate) * ETHERNET_GOODPUT, LATENCY)) for rate in RATES}
    rows = {}
    for world in sorted({*REAL, *SIMULATED}):
        sent = {code: bucket_bytes(shapes, code, world) for code in ("sign", "float32")}
        rows[str(world)] = {
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


def parts_of(exchange: TwoStage, world: int) -> dict[str, Callable[[], object]]:
    """One worker's four computations; its own packets stand in for its peers'."""
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

    return {"quantise": quantise, "sum": add, "requantise": requantise, "decode": decode}


def simulated(values: int, repeats: int) -> dict[str, Any]:
    """Seconds of each computation for each number of workers, taken in turns."""
    torch.set_num_threads(1)
    work = {world: parts_of(TwoStage(columns_of(values), 0, world), world) for world in SIMULATED}
    times: dict[int, dict[str, list[float]]] = {w: {name: [] for name in work[w]} for w in work}
    for number in range(repeats + 1):
        for world, parts in work.items():
            for name, part in parts.items():
                started = time.perf_counter()
                part()
                if number:  # the first round warms up
                    times[world][name].append(time.perf_counter() - started)
    return {str(w): {n: record.spread(t) for n, t in parts.items()} for w, parts in times.items()}


def tables(run: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and lines of what was measured, planned and timed."""
    plan = run.get("planned", {})
    return [
        (
            "one exchange, one worker",
            ["workers", "MB by ledger", "MB by kernel", "MB planned", "MB of memory"],
            [[world, *_measured(row, plan.get(world))] for world, row in run["real"].items()],
        ),
        (
            "planned",
            ["workers", "MB, 1 bit", *RATES, "dense, times as long"],
            [[world, *_planned(row)] for world, row in plan.items()],
        ),
        (
            "ms of one worker's arithmetic, medians",
            ["workers", *PARTS, "all"],
            [[world, *_timed(row)] for world, row in run["simulated"].items()],
        ),
    ]


def _measured(row: dict[str, float], plan: dict[str, Any] | None) -> list[str]:
    planned_bytes = plan["bytes"]["sign"] if plan else math.nan
    figures = (row["ledger_bytes"], row["kernel_bytes"], planned_bytes, row["memory_bytes"])
    return [f"{figure / 1e6:.3f}" if math.isfinite(figure) else "-" for figure in figures]


def _planned(row: dict[str, Any]) -> list[str]:
    seconds = row["seconds"]
    ratios = [seconds[rate]["float32"] / seconds[rate]["sign"] for rate in RATES]
    return [
        f"{row['bytes']['sign'] / 1e6:.3f}",
        *(f"{1e3 * seconds[rate]['sign']:.1f} ms" for rate in RATES),
        " / ".join(f"{ratio:.1f}" for ratio in ratios),
    ]


def _timed(row: dict[str, Any]) -> list[str]:
    medians = [1e3 * row[name][0] for name in PARTS]
    return [f"{ms:.2f}" for ms in (*medians, sum(medians))]


def show(run: dict[str, Any]) -> None:
    """The tables."""
    for title, headings, lines in tables(run):
        table = Table(*headings, title=title)
        for line in lines:
            table.add_row(*line)
        Console().print(table)


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--values", type=int, default=2**23)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "LOCAL_RANK" in os.environ:
        be_worker(arguments.values, arguments.out)
        return
    if arguments.show:
        for stored in record.read(NAME)["runs"].values():
            show(stored)
        return
    before = record.load()
    run = {
        "settings": {"values": arguments.values, "code": "sign", "repeats": arguments.repeats},
        "command": f"python -m benchmarks.growth --values {arguments.values}",
        "planned": planned(arguments.values),
        "simulated": simulated(arguments.values, arguments.repeats),
        "real": real(arguments.values),
        "load": [before, record.load()],
    }
    record.enter(NAME, f"{arguments.values} values", run)
    show(run)


if __name__ == "__main__":
    main()
