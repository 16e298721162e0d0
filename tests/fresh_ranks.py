"""Ranks in processes of their own: DTensor keeps plans of meshes for the life of a process."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.conftest import FORKED, be_rank


def run_fresh_ranks(world: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """[work(rank, world, *args) for each rank], over gloo."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(world, mp_context=FORKED) as pool,
    ):
        store = str(Path(folder) / "store")
        futures = [pool.submit(be_rank, rank, world, store, work, args) for rank in range(world)]
        return [future.result(timeout=280) for future in futures]
