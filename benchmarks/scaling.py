"""H Figure 2: time of a gradient, a curvature product and a line search against workers.

    python -m benchmarks.scaling [--hosts 1 2 4] [--rates 100mbit 1gbit] [--show]   (needs root)

On H's speech network (360-512-512-512-1973, random samples), in the laboratory. The gradient is
over all samples, its sum one all-reduce of the model's size; so is a product's, over the curvature
batch; a line search is the loss of one trial over all samples and a sum of one number. A time is
that of the slowest worker, median over repeats. Hosts share this machine's processors: beyond their
number a worker computes no less long, whatever is divided. About 4 minutes; results go to
benchmarks/results/scaling.json, what is there is not repeated unless --again is given.
"""

import argparse
import json
import os
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
from torch.nn import functional as F

from benchmarks import lab, record
from benchmarks.curvature import NETS, network
from thinwire import GaussNewtonOperator
from thinwire.curvature.operator import samples_of
from thinwire.exchange import Ledger, Wire, all_reduce

NAME = "scaling"
NET = "360-512-512-512-1973"
SAMPLES = 16384
BATCHES = (1024, 4096)  # of the curvature, over all workers
GRADIENT, SEARCH = "gradient", "line search"


def product_name(batch: int) -> str:
    """What a product over a batch is called."""
    return f"product, batch {batch}"


def parts(samples: int) -> dict[str, Callable[[], object]]:
    """What is timed, on this worker's share of the samples."""
    sizes, rank, world = NETS[NET], dist.get_rank(), dist.get_world_size()
    model = network(sizes)
    generator = torch.Generator().manual_seed(rank)

    def share(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        mine = count // world
        inputs = torch.rand(mine, sizes[0], generator=generator)
        return inputs, torch.randint(sizes[-1], (mine,), generator=generator)

    everything, wire = share(samples), Wire(None, Ledger())
    flat, full = samples_of(model, F.cross_entropy, everything, wire)
    theta = flat.read()

    def gradient() -> object:
        value, summand = full.gradient(theta)
        return all_reduce(summand, [value], wire, "gradient")

    work: dict[str, Callable[[], object]] = {
        GRADIENT: gradient,
        SEARCH: lambda: wire.sum(torch.tensor(full.losses([theta]), dtype=torch.float64), "trial"),
    }
    for batch in BATCHES:
        G = GaussNewtonOperator(model, F.cross_entropy, share(batch))
        work[product_name(batch)] = lambda G=G: G @ theta
    return work


def be_worker(samples: int, repeats: int, out: Path) -> None:
    """Time everything in turns; worker 0 writes the seconds of the slowest worker."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    work = parts(samples)
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repeats + 1):
        for name, part in work.items():
            dist.barrier()
            started = time.perf_counter()
            part()
            slowest = torch.tensor(time.perf_counter() - started, dtype=torch.float64)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            if number:  # the first round warms up
                times[name].append(slowest.item())
    if dist.get_rank() == 0:
        out.write_text(json.dumps(times), encoding="utf-8")
    dist.destroy_process_group()


def key(hosts: int, rate: str) -> str:
    """Under which a run is stored."""
    return f"{hosts} hosts, {rate}"


def measure(hosts: int, rate: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One run on a network of its own."""
    with tempfile.TemporaryDirectory() as folder, lab.lab(hosts, rate) as net:
        out = Path(folder) / "times.json"
        command = ["-m", "benchmarks.scaling", "--samples", str(settings["samples"])]
        command += ["--repeats", str(settings["repeats"]), "--out", str(out)]
        lines: list[str] = []
        load = record.load()
        done = lab.run(net, command, say=lines.append)
        if done.code:
            return {"error": next((x for x in reversed(lines) if "Error" in x), lines[-1])}
        times = json.loads(out.read_text(encoding="utf-8"))
    seconds = {name: record.spread(values) for name, values in times.items()}
    return {"load": [load, record.load()], "seconds": seconds}


def show(runs: dict[str, Any]) -> None:
    """Medians in ms, a line for each run."""
    found = {name: run["seconds"] for name, run in runs.items() if "seconds" in run}
    if not found:
        return
    names = list(next(iter(found.values())))
    table = Table("", *names, title=f"ms, medians: {NET}, {SAMPLES} samples")
    for name, seconds in found.items():
        table.add_row(name, *(f"{1e3 * seconds[part][0]:.1f}" for part in names))
    Console().print(table)


def main() -> int:
    """Measure what is missing and show it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"])
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="repeat what is stored")
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "LOCAL_RANK" in os.environ:
        be_worker(arguments.samples, arguments.repeats, arguments.out)
        return 0
    for rate in () if arguments.show else arguments.rates:
        for hosts in arguments.hosts:
            settings = {"hosts": hosts, "rate": rate, "net": NET}
            settings |= {"samples": arguments.samples, "repeats": arguments.repeats}
            stored = record.read(NAME)["runs"].get(key(hosts, rate), {})
            if stored.get("settings") == settings and "error" not in stored and not arguments.again:
                continue
            print(key(hosts, rate), flush=True)
            command = f"python -m benchmarks.scaling --hosts {hosts} --rates {rate}"
            entry = {"settings": settings, "command": command, **measure(hosts, rate, settings)}
            record.enter(NAME, key(hosts, rate), entry)
    show(record.read(NAME)["runs"])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.LabError as error:
        print(f"scaling: {error}", file=sys.stderr)
        sys.exit(2)
