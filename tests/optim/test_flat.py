"""Nothing piles up: memory, file descriptors and threads, over steps and over optimisers."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.fresh_ranks import run_fresh_ranks
from tests.optim.oracle import MANY_BUCKETS, batch, perceptron
from thinwire import OneBitSGD, OneBitState, OwnerOptimizer

WAYS: dict[str, Any] = {
    "at once": lambda m, **o: OneBitSGD(m.named_parameters(), **MANY_BUCKETS, **o),
    "double-buffered": lambda m, **o: OneBitSGD(m.named_parameters(), double_buffer=True, **o),
    "serial start": lambda m, **o: OneBitSGD(
        m.named_parameters(), start="serial", start_steps=1000, **o
    ),
    "OwnerOptimizer": lambda m, **o: OwnerOptimizer(
        torch.optim.AdamW, m.named_parameters(), **MANY_BUCKETS, **o
    ),
}
PAGES_KIB = 4


def used() -> tuple[float, int, int]:
    """MiB of memory, open descriptors, threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    descriptors = len([*Path("/proc/self/fd").iterdir()])
    return pages * PAGES_KIB / 1024, descriptors, len([*Path("/proc/self/task").iterdir()])


def take(optimizer: Any, model: nn.Module, step: int, rank: int, world: int) -> None:
    """A step; every third backward is discarded first."""
    optimizer.zero_grad()
    model(batch(optimizer, step, rank, world)).square().mean().backward()
    if step % 3 == 0:
        optimizer.zero_grad()
        model(batch(optimizer, step, rank, world)).square().mean().backward()
    optimizer.step()


def many_steps(rank: int, world: int, way: str, steps: int) -> list[tuple[float, int, int]]:
    model = perceptron(0, 20, 60, 60, 4)
    optimizer = WAYS[way](model, lr=1e-4)
    seen = []
    for step in range(steps):
        take(optimizer, model, step, rank, world)
        if step in (steps // 4, steps - 1):
            seen.append(used())
    optimizer.close()
    return seen


def many_optimisers(rank: int, world: int, count: int) -> list[tuple[float, int, int]]:
    """Closed, replaced and dropped in turn."""
    seen, optimizer, model = [], None, perceptron(0, 200, 300, 20)
    for life in range(count):
        if life % 3 == 0:
            model = perceptron(0, 20, 600, 40, 4)
        optimizer = WAYS[[*WAYS][life % len(WAYS)]](model, lr=1e-4)
        state = OneBitState(named_parameters=model.named_parameters())
        take(optimizer, model, life, rank, world)
        if life % 3 == 1:
            optimizer.close()
            state.close()
        if life in (count // 2, count - 1):
            seen.append(used())
    return seen


def same(seen: list[tuple[float, int, int]]) -> None:
    (memory, descriptors, threads), (later, more_descriptors, more_threads) = seen
    assert later < memory + 20, f"{memory:.0f} -> {later:.0f} MiB"
    assert more_descriptors <= descriptors + 12
    assert more_threads <= threads + 12


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("world", [1, 2])
def test_thousands_of_steps_leave_nothing(way: str, world: int) -> None:
    for seen in run_fresh_ranks(world, many_steps, way, 2000 // world):
        same(seen)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("world", [1, 2])
def test_hundreds_of_optimisers_leave_nothing(world: int) -> None:
    for seen in run_fresh_ranks(world, many_optimisers, 200):
        same(seen)
