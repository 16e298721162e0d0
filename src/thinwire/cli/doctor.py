"""``thinwire doctor``: versions, kernels and their speed, communication, data."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch
import torch.distributed as dist

from thinwire import kernels
from thinwire.cli.usage import parse
from thinwire.data import find_idx_files, mnist_cache
from thinwire.quantize import Columns, SignCode
from thinwire.train.summary import versions


@dataclass(frozen=True)
class DoctorFields:
    """Say what this installation can do."""


def run(args: list[str]) -> int:
    """Print the findings; returns the exit code."""
    parse(DoctorFields(), args, prog="thinwire doctor")

    for name, value in versions().items():
        print(f"{name:12} {value}")
    if kernels.native.available():
        print(f"{'compiled':12} {', '.join(kernels.native.instruction_sets())}")
    else:
        print(
            f"{'compiled':12} nothing: the package was installed without a C++ compiler and uses "
            "the slower plain-torch kernels; install a compiler and reinstall for speed"
        )
    print(f"{'GPU':12} {_gpu()}")
    print(f"{'speed':12} quantising takes {_quantise_ratio():.2f}x the time of an in-place add")
    print(f"{'processors':12} {os.cpu_count()}, {torch.get_num_threads()} threads a process")
    backends = [b for b in ("gloo", "nccl", "mpi") if dist.is_backend_available(b)]
    print(f"{'distributed':12} {', '.join(backends) if dist.is_available() else 'not available'}")
    try:
        find_idx_files(mnist_cache())
        found = f"in {mnist_cache()}"
    except OSError:
        found = "not in the user cache yet; `thinwire data mnist` fetches it"
    print(f"{'MNIST':12} {found}")
    return 0


def _gpu() -> str:
    """Say which kernels serve tensors of a GPU, and whether there is one."""
    seen = "a CUDA device is here" if torch.cuda.is_available() else "no CUDA device is here"
    if kernels.triton_kernels.available():
        return f"triton {version('triton')} serves CUDA tensors; {seen} (docs/gpu.md)"
    return f"plain torch serves CUDA tensors: pip install 'thinwire[gpu]' for kernels; {seen}"


def _quantise_ratio() -> float:
    """Median time of quantise-with-feedback over that of residual.add_(gradient), 4M values."""
    columns, code = Columns.from_lengths([2048] * 2048), SignCode()
    gradient, residual = torch.randn(2, columns.values)
    payload = torch.empty(code.payload_bytes(columns), dtype=torch.uint8)
    quantise = _median_seconds(
        lambda: code.encode(gradient, 1.0, residual, columns, residual, payload)
    )
    return quantise / _median_seconds(lambda: residual.add_(gradient))


def _median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[repeats // 2]
