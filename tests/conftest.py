"""Shared by all tests: a pool of rank processes that lives as long as the session."""

import multiprocessing
import os
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

os.environ.setdefault("OMP_NUM_THREADS", "1")
hypothesis.settings.register_profile("thinwire", deadline=None, print_blob=True)
hypothesis.settings.load_profile("thinwire")

MOST_RANKS = 4
RunRanks = Callable[..., list[Any]]


def _be_rank(rank: int, world: int, store: str, work: Callable[..., Any], args: Any) -> Any:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=30),
    )
    try:
        return work(rank, world, *args)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def run_ranks() -> Iterator[RunRanks]:
    """``run_ranks(world, work, *args)``: [work(rank, world, *args) for each rank], over gloo."""
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(MOST_RANKS, mp_context=context) as pool,
        tempfile.TemporaryDirectory() as folder,
    ):
        runs = iter(range(10**6))

        def run(world: int, work: Callable[..., Any], *args: Any) -> list[Any]:
            store = str(Path(folder) / f"store{next(runs)}")
            futures = [
                pool.submit(_be_rank, rank, world, store, work, args) for rank in range(world)
            ]
            return [future.result(timeout=100) for future in futures]

        yield run
