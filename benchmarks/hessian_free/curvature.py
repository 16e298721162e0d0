"""Cost of curvature products as ratios to one gradient on the same batch in the same run.

    python -m benchmarks.hessian_free.curvature [--set seconds=1 fresh=true]

The gradient is what a user writes: ``torch.autograd.grad`` of the mean cross entropy with respect
to the parameters. Beside it: products by ``HessianOperator`` and ``GaussNewtonOperator``, whole
(flat vector in, flat vector out), and what one writes without them: double backward with the graph
rebuilt for every product, and ``torch.func.jvp`` of ``grad``, both also flat. Jobs take turns, so
that drift of the machine cancels. Times are CPU times of one thread, which other processes on the
machine only touch through its caches; wall-clock ratios are stored beside. Ratios are of medians,
with quartiles of the ratio within one round. Memory is what stays allocated between products, above
model and batch.

A tensor of 32 MB is freed first, as it is in any process that has handled a data set: glibc then
keeps freed memory. Until then (``fresh``) it gives memory back to the system after every product,
and page faults make products slower.
"""

import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from benchmarks.command import main
from benchmarks.hessian_free.networks import NETS, Batch, batch, network
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results
from benchmarks.tables import Table, number, of_measures
from benchmarks.timing import Job, in_turns, ratios
from thinwire import GaussNewtonOperator, HessianOperator
from thinwire.curvature import FlatModel

LARGE = 2**25 - 2**14  # bytes, just below the most that glibc adapts to
IN_A_ROW = 10  # calls of a job in each round: as many products as a solver makes,
ROW_SECONDS = 0.5  # or as many gradients as fit in this time

PRODUCTS = ("Hessian", "Gauss-Newton", "rebuilt", "jvp of grad", "loss")

Timing = tuple[float, float]  # CPU and wall-clock seconds


def cells(_: Results) -> list[Cell]:
    """Return every network at two batch sizes."""
    common = {"seconds": 20.0, "rounds": 5, "fresh": False}  # seconds of each, at least 5 rounds
    return [
        Cell(f"{net}, {samples} samples", {"net": net, "samples": samples, **common}, measure)
        for net in NETS
        for samples in (512, 4096)
    ]


def jobs(model: nn.Sequential, samples: Batch) -> dict[str, Job]:
    """Return the gradient, our products, and the naive ones."""
    inputs, targets = samples
    parameters = list(model.parameters())
    v = torch.randn_like(FlatModel(model).read())
    H = HessianOperator(model, F.cross_entropy, samples)
    G = GaussNewtonOperator(model, F.cross_entropy, samples)
    return {
        "gradient": lambda: torch.autograd.grad(
            F.cross_entropy(model(inputs), targets), parameters
        ),
        "Hessian": lambda: H @ v,
        "Gauss-Newton": lambda: G @ v,
        **naive_jobs(model, samples, v),
    }


def naive_jobs(model: nn.Sequential, samples: Batch, v: Tensor) -> dict[str, Job]:
    """Return Hessian products as one writes them without a retained graph; and the forward."""
    inputs, targets = samples
    parameters = list(model.parameters())
    pieces = FlatModel(model).pieces(v)
    values = {name: p.detach() for name, p in model.named_parameters()}
    tangents = dict(zip(values, pieces, strict=True))

    def rebuilt() -> Tensor:
        loss = F.cross_entropy(model(inputs), targets)
        g = torch.autograd.grad(loss, parameters, create_graph=True)
        return parameters_to_vector(torch.autograd.grad(g, parameters, pieces))

    def loss_of(values: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(model, values, (inputs,)), targets)

    def forward_over_reverse() -> Tensor:
        _, product = torch.func.jvp(torch.func.grad(loss_of), (values,), (tangents,))
        return parameters_to_vector(product.values())

    def forward() -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(model(inputs), targets)

    return {"rebuilt": rebuilt, "jvp of grad": forward_over_reverse, "loss": forward}


def timed(job: Job, calls: int) -> Timing:
    """Return what a call takes, of some in a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        job()
    return (time.process_time() - cpu) / calls, (time.perf_counter() - wall) / calls


def rounds(work: dict[str, Job], seconds: float, least: int) -> dict[str, list[Timing]]:
    """Return the costs of each job in each round, in as many rounds as fit in the time."""
    for _ in range(2):
        once = in_turns(work, 1, timed=lambda job: timed(job, 1))
    calls = min(IN_A_ROW, max(2, round(ROW_SECONDS / once["gradient"][0][1])))
    a_round = calls * sum(costs[0][1] for costs in once.values())
    return in_turns(work, max(least, int(seconds / a_round)), timed=lambda job: timed(job, calls))


def summary(times: dict[str, list[Timing]]) -> dict[str, dict[str, object]]:
    """Return of each job: median milliseconds; ratio of medians, and quartiles within a round."""
    columns = {
        name: [list(column) for column in zip(*own, strict=True)] for name, own in times.items()
    }
    cpu_0, wall_0 = (statistics.median(column) for column in columns["gradient"])
    found: dict[str, dict[str, object]] = {}
    for name, (own_cpu, own_wall) in columns.items():
        low, _, high = statistics.quantiles(ratios(own_cpu, columns["gradient"][0]), n=4)
        cpu, wall = statistics.median(own_cpu), statistics.median(own_wall)
        found[name] = {
            "ratio": cpu / cpu_0,
            "quartiles": [low, high],
            "ratio_of_wall_clock": wall / wall_0,
            "ms": 1e3 * cpu,
            "ms_of_wall_clock": 1e3 * wall,
        }
    return found


def retained(net: str, samples: int) -> dict[str, float] | None:
    """Return the MiB that stay allocated between products, above model, batch and theta.

    None where malloc keeps no account.
    """
    if allocated() is None:
        return None
    model, (inputs, targets) = network(net), batch(net, samples)
    makers: dict[str, Callable[[], object]] = {
        "forward": lambda: F.cross_entropy(model(inputs), targets),
        "Hessian": lambda: HessianOperator(model, F.cross_entropy, (inputs, targets)),
        "Gauss-Newton": lambda: GaussNewtonOperator(model, F.cross_entropy, (inputs, targets)),
    }
    found = {}
    for name, make in makers.items():
        make()  # what libraries keep for good is not counted
        gc.collect()
        before = allocated() or 0
        kept = make()
        gc.collect()
        found[name] = ((allocated() or 0) - before) / 2**20
        del kept
    return found


def allocated() -> int | None:
    """Return the bytes in use by malloc's account, if it keeps one (glibc)."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None

    class Info(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    libc.mallinfo2.restype = Info
    info = libc.mallinfo2()
    return int(info.hblkhd + info.uordblks)


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Time one net and batch size."""
    torch.set_num_threads(1)
    if not settings["fresh"]:
        del_me = torch.empty(LARGE // 4)
        del del_me
    net, samples = settings["net"], settings["samples"]
    work = jobs(network(net), batch(net, samples))
    times = rounds(work, settings["seconds"], settings["rounds"])
    return {
        "rounds": len(times["gradient"]),
        "jobs": summary(times),
        "retained_mib": retained(net, samples),
    }


def tables(results: Results) -> list[Table]:
    """Return times over one gradient's, and memory."""

    def ratio(name: str) -> Callable[[dict[str, Any]], str]:
        def text(told: dict[str, Any]) -> str:
            job = told["jobs"][name]
            low, high = job["quartiles"]
            return f"{job['ratio']:.2f} ({low:.2f}-{high:.2f})"

        return text

    def memory(told: dict[str, Any]) -> str:
        kept = told["retained_mib"] or {}
        return ", ".join(f"{name} {mib:.0f}" for name, mib in kept.items())

    columns = {
        "rounds": number("rounds", 0),
        "gradient": lambda told: f"{told['jobs']['gradient']['ms']:.1f} ms",
        **{name: ratio(name) for name in PRODUCTS},
        "MiB retained": memory,
    }
    title = "time over one gradient's: ratio of medians, and quartiles within a round"
    return [of_measures(title, results, columns)]


BENCHMARK = Benchmark("curvature", "benchmarks.hessian_free.curvature", cells, tables, 30.0)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
