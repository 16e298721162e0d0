"""One worker of a benchmark, started by ``benchmarks.launch`` under torchrun.

    torchrun ... -m benchmarks.worker MODULE:FUNCTION --cells FILE --out FILE [--device eth0]

The function is handed the settings of one cell after another, with "seed" and "device" (the network
interface of a laboratory's host, or "none") among them, and returns the cell's measures. Worker 0
writes them, a line of JSON for each cell.
"""

import argparse
import gc
import importlib
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.lab import Counters, own_counters


def counters(device: str) -> Counters:
    """Return what this worker's interface has carried so far; nothing where there is none."""
    return Counters() if device == "none" else own_counters(device)


def do(measure: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure one cell; models of DDP are gone afterwards, before their process group goes."""
    started = time.monotonic()
    measures = measure(settings)
    gc.collect()
    return {"wall": time.monotonic() - started, "measures": measures}


def main() -> None:
    """Do the cells."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("measure", metavar="MODULE:FUNCTION")
    parser.add_argument("--cells", type=Path, required=True, help="JSON: a list of settings")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each")
    parser.add_argument("--device", default="eth0")
    arguments = parser.parse_args()
    module, _, function = arguments.measure.partition(":")
    measure = getattr(importlib.import_module(module), function)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))  # for hooks that hang
    for settings in json.loads(arguments.cells.read_text(encoding="utf-8")):
        done = do(measure, {**settings, "device": arguments.device})
        if dist.get_rank() == 0:
            with arguments.out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(done) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
