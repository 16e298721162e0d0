"""How often short DDP runs survive a communication hook on gloo.

    python benchmarks/hook_stability.py [--runs 200] [--powersgd 10] [--json FILE]

Each run is a fresh set of processes: 2 to 4 ranks, 2 to 6 buckets, 8 iterations. It survives if
every rank exits cleanly with the same parameters. PyTorch's own PowerSGD hook runs side by side, a
few times, since a run of it that hangs costs its whole time-out: it waits for a collective inside a
Future callback, which gloo's two worker threads cannot serve for two buckets at a time.
"""

import argparse
import collections
import contextlib
import itertools
import json
import multiprocessing
import os
import platform
import tempfile
import time
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

ITERATIONS = 8
WORLDS, BUCKETS = (2, 3, 4), (2, 3, 4, 5, 6)
PRELOAD = ("torch", "thinwire", "thinwire.train.replicas")


def be_rank(kind: str, rank: int, world: int, buckets: int, folder: str) -> None:
    """One rank of one run; its parameters' hash goes into a file."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as powersgd
    from torch.nn.parallel import DistributedDataParallel

    import thinwire
    from thinwire.train.replicas import fingerprint

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=15),
    )
    torch.manual_seed(0)
    width = 128  # 64 KiB a layer: one bucket each
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(buckets)))
    ddp = DistributedDataParallel(model, bucket_cap_mb=width * width * 4 / 2**20)
    if kind == "thinwire":
        ddp.register_comm_hook(thinwire.OneBitState(), thinwire.onebit_hook)
    else:
        state = powersgd.PowerSGDState(None, 1, start_powerSGD_iter=2)
        ddp.register_comm_hook(state, powersgd.powerSGD_hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(ITERATIONS):
        torch.manual_seed(1000 * step + rank)
        optimizer.zero_grad()
        ddp(torch.randn(8, width)).square().mean().backward()
        optimizer.step()
    Path(folder, f"hash{rank}").write_text(fingerprint(model.state_dict()))
    dist.destroy_process_group()


def one_run(kind: str, world: int, buckets: int, timeout: float) -> str:
    """How it went: ok, hang, abort, error, or replicas differ."""
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


def survey(kind: str, runs: int, timeout: float) -> dict[str, int]:
    """Outcomes of ``runs`` runs over all combinations of ranks and buckets, in turn."""
    combinations = itertools.cycle(itertools.product(WORLDS, BUCKETS))
    console = Console(stderr=True)
    return dict(
        collections.Counter(
            one_run(kind, *next(combinations), timeout)
            for _ in track(range(runs), description=kind, console=console)
        )
    )


def main() -> None:
    """Print the outcomes, and write them where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--powersgd", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    multiprocessing.set_forkserver_preload(list(PRELOAD))
    results: dict[str, Any] = {
        "thinwire hook": survey("thinwire", arguments.runs, 60),
        "PyTorch PowerSGD hook": survey("powersgd", arguments.powersgd, 20),
    }
    table = Table(title="DDP hooks on gloo, 2-4 ranks, 2-6 buckets")
    for name in ("hook", "runs", "survived", "outcomes"):
        table.add_column(name)
    for name, outcomes in results.items():
        total = sum(outcomes.values())
        table.add_row(name, str(total), str(outcomes.get("ok", 0)), str(outcomes))
    Console().print(table)
    if arguments.json:
        record = {"processors": os.cpu_count(), "machine": platform.machine(), **results}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
