"""Cost of curvature products as ratios to one gradient on the same batch in the same run.

    python benchmarks/curvature.py [--nets 784-400-10 ...] [--samples 512 4096] [--json FILE]

The gradient is what a user writes: ``torch.autograd.grad`` of the mean cross entropy with respect
to the parameters. Beside it: products by ``HessianOperator`` and ``GaussNewtonOperator``, whole
(flat vector in, flat vector out), and what one writes without them: double backward with the graph
rebuilt for every product, and ``torch.func.jvp`` of ``grad``, both also flat. Repeats are
interleaved, so that drift of the machine cancels. Times are CPU times of one thread, which other
processes on the machine only touch through its caches; wall-clock ratios are stored beside. Ratios
are of medians, with quartiles of the ratio within one round. Memory is what stays allocated between
products, above model and batch.

A tensor of 32 MB is freed first, as it is in any process that has handled a data set: glibc then
keeps freed memory. Until then (``--fresh``) it gives memory back to the system after every product,
and page faults make products slower.
"""

import argparse
import ctypes
import gc
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from thinwire import GaussNewtonOperator, HessianOperator
from thinwire.curvature import FlatModel

NETS = {
    "784-400-10": (784, 400, 10),
    "784-400-150-10": (784, 400, 150, 10),
    "360-512-512-512-1973": (360, 512, 512, 512, 1973),
}
BARS = {
    "784-400-10": {"Hessian": 1.2, "Gauss-Newton": 1.15},
    "360-512-512-512-1973": {"Hessian": 2.15, "Gauss-Newton": 1.45},
}

LARGE = 2**25 - 2**14  # bytes, just below the most that glibc adapts to

IN_A_ROW = 10  # calls of a job in each round: as many products as a solver makes,
ROW_SECONDS = 0.5  # or as many gradients as fit in this time

Batch = tuple[Tensor, Tensor]
Job = Callable[[], object]
Timing = tuple[float, float]


def network(sizes: tuple[int, ...]) -> nn.Sequential:
    """A sigmoid network."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def problem(net: str, samples: int) -> tuple[nn.Sequential, Batch]:
    """The network and a random batch."""
    sizes = NETS[net]
    return network(sizes), (torch.rand(samples, sizes[0]), torch.randint(sizes[-1], (samples,)))


def jobs(model: nn.Sequential, batch: Batch, naive: bool) -> dict[str, Job]:
    """The gradient, our products, and the naive ones."""
    inputs, targets = batch
    parameters = list(model.parameters())
    flat = FlatModel(model)
    v = torch.randn_like(flat.read())

    def gradient() -> object:
        return torch.autograd.grad(F.cross_entropy(model(inputs), targets), parameters)

    H = HessianOperator(model, F.cross_entropy, batch)
    G = GaussNewtonOperator(model, F.cross_entropy, batch)
    work: dict[str, Job] = {
        "gradient": gradient,
        "Hessian": lambda: H @ v,
        "Gauss-Newton": lambda: G @ v,
    }
    if naive:
        work |= naive_jobs(model, batch, v)
    return work


def naive_jobs(model: nn.Sequential, batch: Batch, v: Tensor) -> dict[str, Job]:
    """Hessian products as one writes them without a retained graph; and the forward alone."""
    inputs, targets = batch
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


def interleaved(work: dict[str, Job], seconds: float, least: int) -> dict[str, list[Timing]]:
    """CPU and wall-clock seconds of each job in each round, rounds until the time is up."""
    times: dict[str, list[Timing]] = {name: [] for name in work}
    for job in work.values():  # warm up
        job()
        job()
    started = time.perf_counter()
    work["gradient"]()
    calls = min(IN_A_ROW, max(2, round(ROW_SECONDS / (time.perf_counter() - started))))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["gradient"]) < least:
        for name, job in work.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(calls):
                job()
            spent = time.process_time() - cpu, time.perf_counter() - wall
            times[name].append((spent[0] / calls, spent[1] / calls))
    return times


def summary(times: dict[str, list[Timing]]) -> dict[str, dict[str, object]]:
    """Of each job: median milliseconds; ratio of medians, and quartiles of it within a round."""
    found: dict[str, dict[str, object]] = {}
    for name, own in times.items():
        ratios = [t / g for (t, _), (g, _) in zip(own, times["gradient"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cpu, wall = (statistics.median(column) for column in zip(*own, strict=True))
        cpu_0, wall_0 = (
            statistics.median(column) for column in zip(*times["gradient"], strict=True)
        )
        found[name] = {
            "ratio": cpu / cpu_0,
            "ratio_within_rounds": middle,
            "quartiles": [low, high],
            "ratio_of_wall_clock": wall / wall_0,
            "ms": 1e3 * cpu,
            "ms_of_wall_clock": 1e3 * wall,
        }
    return found


def retained(net: str, samples: int) -> dict[str, float] | None:
    """MiB that stay allocated between products, above model, batch and theta; None if unknown."""
    if allocated() is None:
        return None
    model, (inputs, targets) = problem(net, samples)
    makers: dict[str, Callable[[], object]] = {
        "forward": lambda: F.cross_entropy(model(inputs), targets),
        "Hessian": lambda: HessianOperator(model, F.cross_entropy, (inputs, targets)),
        "Gauss-Newton": lambda: GaussNewtonOperator(model, F.cross_entropy, (inputs, targets)),
    }
    found = {}
    for name, make in makers.items():
        make()  # what libraries keep for good is not counted
        gc.collect()
        before = allocated()
        kept = make()
        gc.collect()
        found[name] = (allocated() - before) / 2**20
        del kept
    return found


def allocated() -> int | None:
    """Bytes in use by malloc's account, if it keeps one (glibc)."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None

    class Info(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    libc.mallinfo2.restype = Info
    info = libc.mallinfo2()
    return int(info.hblkhd + info.uordblks)


def measure(net: str, samples: int, seconds: float, least: int, naive: bool) -> dict[str, object]:
    """One net and batch size."""
    model, batch = problem(net, samples)
    before = os.getloadavg()[0]
    times = interleaved(jobs(model, batch, naive), seconds, least)
    return {
        "net": net,
        "samples": samples,
        "rounds": len(times["gradient"]),
        "load": [before, os.getloadavg()[0]],
        "jobs": summary(times),
        "retained_mib": retained(net, samples),
    }


def show(results: list[dict], console: Console) -> None:
    """A table, with the bars of the nets that have one."""
    names = list(results[0]["jobs"])
    table = Table(title="time over one gradient's, median (quartiles) of interleaved rounds")
    for column in ("net", "samples", "rounds", *names):
        table.add_column(column)
    for result in results:
        cells = []
        for name in names:
            job = result["jobs"][name]
            if name == "gradient":
                cells.append(f"{job['ms']:.1f} ms")
                continue
            bar = BARS.get(result["net"], {}).get(name)
            verdict = "" if bar is None else f" <= {bar}" if job["ratio"] <= bar else f" > {bar}!"
            low, high = job["quartiles"]
            cells.append(f"{job['ratio']:.2f} ({low:.2f}-{high:.2f}){verdict}")
        table.add_row(result["net"], str(result["samples"]), str(result["rounds"]), *cells)
    console.print(table)
    for result in results:
        if result["retained_mib"]:
            kept = ", ".join(f"{name} {mib:.0f}" for name, mib in result["retained_mib"].items())
            console.print(f"{result['net']}, {result['samples']} samples, MiB retained: {kept}")


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--samples", nargs="+", type=int, default=[512, 4096])
    parser.add_argument("--seconds", type=float, default=20, help="of each net and batch size")
    parser.add_argument("--rounds", type=int, default=5, help="at least so many")
    parser.add_argument("--naive", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--fresh", action="store_true", help="do not free a large tensor first")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.fresh:
        del_me = torch.empty(LARGE // 4)
        del del_me
    console = Console(width=160)
    results = []
    for net in options.nets:
        for samples in options.samples:
            args = (net, samples, options.seconds, options.rounds, options.naive)
            results.append(measure(*args))
            show(results[-1:], console)
    show(results, console)
    if options.json:
        machine = {
            "cpu": cpu(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": 1,
            "dtype": "float32",
        }
        command = " ".join(["python", "benchmarks/curvature.py", *sys.argv[1:]])
        document = {"machine": machine, "command": command, "results": results}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
