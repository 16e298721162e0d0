"""Why DeepSpeed's compressed all-reduce is no contender: what its back ends say when asked.

    pip install deepspeed==0.19.7     (in an environment of its own: this project does not need it)
    python -m benchmarks.exchange.hooks --again --only DeepSpeed

Every back end of the package is tried as it is, on this machine's processors and gloo. (With stubs
for its bit packer and two of its collectives it runs; but then it is no longer what a user gets.)
"""

import importlib
import importlib.metadata
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.launch import Place
from benchmarks.runner import Cell

VALUES = 2**16
RELEASES = ("0.19.8", "0.19.7")  # the second is the newest that contains the code
BACKENDS = {
    "compressed": "CompressedBackend",
    "nccl": "NcclBackend",
    "mpi": "MpiBackend",
    "hccl": "HcclBackend",
}


def cells() -> list[Cell]:
    """Return every back end of both releases."""
    return [
        Cell(
            f"DeepSpeed {release}, {backend}",
            {"release": release, "backend": backend},
            "benchmarks.exchange.deepspeed:measure",
            Place(2),
        )
        for release in RELEASES
        for backend in BACKENDS
    ]


def measure(settings: dict[str, Any]) -> dict[str, str]:
    """Exchange something through one back end; return "ok" or the error."""
    installed = importlib.metadata.version("deepspeed")
    if installed != settings["release"]:
        raise ValueError(f"expected deepspeed {settings['release']}, got {installed}")
    module, name = settings["backend"], BACKENDS[settings["backend"]]
    try:
        backend: Any = getattr(importlib.import_module(f"deepspeed.runtime.comm.{module}"), name)()
        share = VALUES // dist.get_world_size()
        errors = torch.zeros(VALUES), torch.zeros(share)
        backend.compressed_allreduce(torch.randn(VALUES), *errors, "cpu")
    except Exception as error:
        return {"outcome": f"{type(error).__name__}: {error}"}
    return {"outcome": "ok"}
