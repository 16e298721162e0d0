"""Why DeepSpeed's compressed all-reduce is not among the contenders: what it says when asked.

Run it in an environment of its own, since DeepSpeed is no dependency of this project:

    pip install deepspeed   (0.19.7 is the newest release that still contains the code)
    torchrun --standalone --nproc-per-node 2 benchmarks/deepspeed_attempt.py FILE

Every back end of the released package is tried as it is, on this machine's processors and gloo;
worker 0 enters what happened in FILE, under the release. (With stubs for its bit packer and two of
its collectives it runs; but then it is no longer what a user would get.)
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

VALUES = 2**16
BACKENDS = {
    "compressed": "CompressedBackend",
    "nccl": "NcclBackend",
    "mpi": "MpiBackend",
    "hccl": "HcclBackend",
}


def attempt(module: str, name: str) -> str:
    """Exchange something through one back end; "ok" or the error."""
    try:
        backend: Any = getattr(importlib.import_module(f"deepspeed.runtime.comm.{module}"), name)()
        share = VALUES // dist.get_world_size()
        errors = torch.zeros(VALUES), torch.zeros(share)
        backend.compressed_allreduce(torch.randn(VALUES), *errors, "cpu")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def main() -> None:
    """Try all, and write the outcomes."""
    deepspeed: Any = importlib.import_module("deepspeed")
    deepspeed.init_distributed("gloo")
    outcomes = {module: attempt(module, name) for module, name in BACKENDS.items()}
    if dist.get_rank() == 0:
        path = Path(sys.argv[1])
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        record[deepspeed.__version__] = {"torch": torch.__version__, **outcomes}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
