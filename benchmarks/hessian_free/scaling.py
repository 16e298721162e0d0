"""H Figure 2: time of a gradient, a curvature product and a line search against workers.

    python -m benchmarks.hessian_free.scaling       (root; 3 minutes)

On H's speech network (360-512-512-512-1973, random samples), in the laboratory. The gradient is
over all samples, its sum one all-reduce of the model's size; so is a product's, over the curvature
batch; a line search is the loss of one trial over all samples and a sum of one number. A time is
that of the slowest worker, median over repeats. Hosts share this machine's processors: beyond their
number a worker computes no less long, whatever is divided.
"""

import sys
from typing import Any

import torch.distributed as dist
from torch.nn import functional as F

from benchmarks.command import main
from benchmarks.hessian_free.networks import batch, network
from benchmarks.launch import Place
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results
from benchmarks.tables import Table, of_measures
from benchmarks.timing import Job, in_turns, slowest, spread
from thinwire import GaussNewtonOperator
from thinwire.curvature import Workers
from thinwire.curvature.operator import samples_of
from thinwire.exchange import Ledger

NET = "360-512-512-512-1973"
SAMPLES = 16384
BATCHES = (1024, 4096)  # of the curvature, over all workers


def product_name(batch_size: int) -> str:
    """Return what a product over a batch is called."""
    return f"product, batch {batch_size}"


def cells(_: Results) -> list[Cell]:
    """Return every number of hosts on every wire."""
    return [
        Cell(
            f"{hosts} hosts, {rate}",
            {"hosts": hosts, "rate": rate, "net": NET, "samples": SAMPLES, "repeats": 5},
            "benchmarks.hessian_free.scaling:measure",
            Place(hosts, rate),
        )
        for rate in ("100mbit", "1gbit")
        for hosts in (1, 2, 4)
    ]


def parts(samples: int) -> dict[str, Job]:
    """Return what is timed, on this worker's share of the samples."""
    rank, world = dist.get_rank(), dist.get_world_size()
    model, workers = network(NET), Workers(None, Ledger())
    flat, full = samples_of(model, F.cross_entropy, batch(NET, samples // world, rank), workers)
    theta = flat.read()

    def gradient() -> object:
        value, summand = full.gradient(theta)
        return workers.sum(summand, [value], "gradient").result

    work: dict[str, Job] = {
        "gradient": gradient,
        "line search": lambda: workers.sum_numbers(full.losses([theta]), "trial").result,
    }
    for size in BATCHES:
        G = GaussNewtonOperator(model, F.cross_entropy, batch(NET, size // world, rank))
        work[product_name(size)] = lambda G=G: G @ theta
    return work


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Return median, smallest and largest seconds of each part."""
    times = in_turns(parts(settings["samples"]), settings["repeats"], slowest)
    return {name: spread(own) for name, own in times.items()}


def tables(results: Results) -> list[Table]:
    """Return medians in ms, a line for each run."""
    names = ["gradient", "line search", *map(product_name, BATCHES)]
    columns = {name: lambda told, name=name: f"{1e3 * told[name][0]:.1f}" for name in names}
    return [of_measures(f"ms, medians: {NET}, {SAMPLES} samples", results, columns)]


BENCHMARK = Benchmark(
    "scaling", "benchmarks.hessian_free.scaling", cells, tables, 25.0, ("hosts", "rate")
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
