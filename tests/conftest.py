"""Shared by all tests: a pool of rank processes that lives as long as the session."""

import contextlib
import gc
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
import torch.distributed as dist

# Tests' tensors are small, and ranks want the other cores. `make test-numerics` asks for two, and
# processes that tests start inherit the number.
THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
torch.set_num_threads(THREADS)
# Triton runs its programs on the CPU where this is set before it is first imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
hypothesis.settings.register_profile("thinwire", deadline=None, print_blob=True)
hypothesis.settings.load_profile("thinwire")

MOST_RANKS = 4
RunRanks = Callable[..., list[Any]]

# Ranks are forked from a process that has imported what takes them seconds and runs no threads.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["hypothesis", "pytest", "thinwire.train", "torch.distributed.fsdp"])


def be_rank(rank: int, world: int, store: str, work: Callable[..., Any], args: Any) -> Any:
    torch.set_num_threads(THREADS)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    try:
        return work(rank, world, *args)
    finally:
        gc.collect()  # see train/environment.py
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def run_ranks() -> Iterator[RunRanks]:
    """``run_ranks(world, work, *args)``: [work(rank, world, *args) for each rank], over gloo."""
    with (
        ProcessPoolExecutor(MOST_RANKS, mp_context=FORKED) as pool,
        tempfile.TemporaryDirectory() as folder,
    ):
        runs = iter(range(10**6))

        def run(world: int, work: Callable[..., Any], *args: Any) -> list[Any]:
            store = str(Path(folder) / f"store{next(runs)}")
            futures = [
                pool.submit(be_rank, rank, world, store, work, args) for rank in range(world)
            ]
            return [future.result(timeout=100) for future in futures]

        yield run


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An easy data set of ten classes in MNIST's four files: 600 + 200 images of 6 x 6."""
    folder = tmp_path_factory.mktemp("idx")
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randint(0, 256, (10, 6, 6), generator=generator)
    for name, count in (("train", 600), ("t10k", 200)):
        labels = torch.randint(0, 10, (count,), generator=generator)
        noise = torch.randint(-60, 61, (count, 6, 6), generator=generator)
        images = (prototypes[labels] + noise).clamp(0, 255)
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    return folder


def write_idx(path: Path, values: torch.Tensor) -> None:
    header = bytes([0, 0, 8, values.dim()])
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + sizes + values.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of 24 MB, which ``fill`` fills."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Leave no room on a disk, or so many bytes; returns the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    os.truncate(filler, filler.stat().st_size - leave)
    return filler
