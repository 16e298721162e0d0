"""Shows that the hook's exchange runs while backward computes.

    torchrun --standalone --nproc-per-node 2 benchmarks/overlap.py [trace.json]

Prints when, in milliseconds of one iteration, worker 0 computed each layer's backward (main thread)
and exchanged each bucket (communication thread); also writes a Chrome trace where a path is given.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import nn
from torch._C._profiler import _ExperimentalConfig
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

import thinwire

LAYERS, WIDTH, SAMPLES = 6, 1024, 256


def traced_iteration(path: Path) -> list[dict[str, Any]]:
    """Train a little, profile one iteration on all threads; its spans."""
    torch.manual_seed(0)
    layers = [layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    ddp = DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=4.1)
    ddp.register_comm_hook(thinwire.OneBitState(), thinwire.onebit_hook)
    inputs = torch.randn(SAMPLES, WIDTH)

    def iterate() -> None:
        ddp.zero_grad()
        ddp(inputs).square().mean().backward()

    for _ in range(4):
        iterate()
    everywhere = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=everywhere) as profiler:
        iterate()
    profiler.export_chrome_trace(str(path))
    events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def show(spans: Sequence[dict[str, Any]]) -> None:
    """One row for each span, in order of time."""
    backward = [s for s in spans if s["name"].endswith("evaluate_function: AddmmBackward0")]
    own = [s for s in spans if s["name"].startswith("thinwire::")]
    start = min(span["ts"] for span in (*backward, *own))
    table = Table("from ms", "to ms", "thread", "what", title="one iteration on worker 0")
    for span in sorted((*backward, *own), key=lambda span: span["ts"]):
        begin = (span["ts"] - start) / 1e3
        end = begin + span["dur"] / 1e3
        name = "backward of a layer" if span in backward else span["name"]
        table.add_row(f"{begin:.1f}", f"{end:.1f}", str(span["tid"]), name)
    Console().print(table)


def main() -> None:
    """Run under torchrun."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        wanted = sys.argv[1:2] if dist.get_rank() == 0 else []
        spans = traced_iteration(Path(*(wanted or [folder, "trace.json"])))
    if dist.get_rank() == 0:
        show(spans)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
