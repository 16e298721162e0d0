"""How often short DDP runs survive a communication hook on gloo.

    python -m benchmarks.exchange.hooks [--again] [--set runs=20]

Each run is a fresh set of processes: 2 to 4 ranks, 2 to 6 buckets, 8 iterations. It survives if
every rank exits cleanly with the same parameters. PyTorch's own PowerSGD hook runs side by side, a
few times, since a run of it that hangs costs its whole time-out: it waits for a collective inside a
Future callback, which gloo's two worker threads cannot serve for two buckets at a time. What
DeepSpeed's back ends say (``deepspeed``) is stored with it.
"""

import collections
import contextlib
import itertools
import multiprocessing
import sys
import tempfile
import time
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.command import main
from benchmarks.exchange import deepspeed
from benchmarks.runner import Benchmark, Cell
from benchmarks.store import Results
from benchmarks.tables import Table, of_measures

ITERATIONS = 8
WORLDS, BUCKETS = (2, 3, 4), (2, 3, 4, 5, 6)
PRELOAD = ("torch", "thinwire", "thinwire.train.replicas")
WIDTH = 128  # of a layer, 64 KiB: one bucket each
KINDS = {"thinwire hook": ("thinwire", 200, 60), "PyTorch PowerSGD hook": ("powersgd", 5, 20)}
"""What is run, how often, and the seconds after which a run hangs."""


def be_rank(kind: str, rank: int, world: int, buckets: int, folder: str) -> None:
    """Be one rank of one run; its parameters' hash goes into a file."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as powersgd
    from torch.nn.parallel import DistributedDataParallel

    import thinwire
    from thinwire.train.replicas import fingerprint

    torch.set_num_threads(1)
    store, patience = f"file://{folder}/store", timedelta(seconds=15)
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=world, timeout=patience
    )
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(buckets)))
    ddp = DistributedDataParallel(model, bucket_cap_mb=WIDTH * WIDTH * 4 / 2**20)
    if kind == "thinwire":
        ddp.register_comm_hook(thinwire.OneBitState(code="sign"), thinwire.onebit_hook)
    else:
        state = powersgd.PowerSGDState(None, 1, start_powerSGD_iter=2)
        ddp.register_comm_hook(state, powersgd.powerSGD_hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(ITERATIONS):
        torch.manual_seed(1000 * step + rank)
        optimizer.zero_grad()
        ddp(torch.randn(8, WIDTH)).square().mean().backward()
        optimizer.step()
    Path(folder, f"hash{rank}").write_text(fingerprint(model.state_dict()))
    dist.destroy_process_group()


def one_run(kind: str, world: int, buckets: int, timeout: float) -> str:
    """Return how it went: ok, hang, abort, error, or replicas differ."""
    context = multiprocessing.get_context("forkserver")
    with tempfile.TemporaryDirectory() as folder:
        ranks: list[BaseProcess] = [
            context.Process(target=be_rank, args=(kind, rank, world, buckets, folder))
            for rank in range(world)
        ]
        for process in ranks:
            process.start()
        deadline = time.monotonic() + timeout
        for process in ranks:
            process.join(max(0.0, deadline - time.monotonic()))
        hung = [process for process in ranks if process.is_alive()]
        for process in hung:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.join()
        if hung:
            return "hang"
        codes = {process.exitcode for process in ranks} - {0}
        if codes:
            return "abort" if min(code or 0 for code in codes) < 0 else "error"
        hashes = {Path(folder, f"hash{rank}").read_text() for rank in range(world)}
        return "ok" if len(hashes) == 1 else "replicas differ"


def survey(settings: dict[str, Any]) -> dict[str, int]:
    """Return the outcomes of some runs over all combinations of ranks and buckets, in turn."""
    multiprocessing.set_forkserver_preload(list(PRELOAD))
    combinations = itertools.cycle(itertools.product(WORLDS, BUCKETS))
    kind, timeout = settings["kind"], settings["timeout"]
    outcomes = (one_run(kind, *next(combinations), timeout) for _ in range(settings["runs"]))
    return dict(collections.Counter(outcomes))


def cells(_: Results) -> list[Cell]:
    """Return both hooks and DeepSpeed's back ends."""
    own = [
        Cell(key, {"kind": kind, "runs": runs, "timeout": timeout}, survey)
        for key, (kind, runs, timeout) in KINDS.items()
    ]
    return [*own, *deepspeed.cells()]


def tables(results: Results) -> list[Table]:
    """Return the outcomes."""
    columns = {"outcomes": lambda told: ", ".join(f"{how}: {n}" for how, n in told.items())}
    return [of_measures("DDP hooks on gloo, 2-4 ranks, 2-6 buckets", results, columns)]


BENCHMARK = Benchmark("hooks", "benchmarks.exchange.hooks", cells, tables, 200.0, ("kind",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
