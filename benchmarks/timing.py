"""Measuring time: jobs take turns, so that whatever else the machine does meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")
Job = Callable[[], object]
Range = tuple[float, float, float]
"""Median, smallest, largest."""


def seconds(job: Job) -> float:
    """Return how long a job takes."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def slowest(job: Job) -> float:
    """Return how long the slowest worker takes, all of which begin together."""
    dist.barrier()
    return over_workers(seconds(job), dist.ReduceOp.MAX)


def over_workers(number: float, how: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> float:
    """Return the sum (or the maximum) of a number over workers."""
    tensor = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(tensor, how)
    return tensor.item()


def mean_over_workers(number: float) -> float:
    """Return the mean of a number over workers."""
    return over_workers(number) / dist.get_world_size()


def in_turns(
    work: Mapping[str, Job], repeats: int, timed: Callable[[Job], T] = seconds
) -> dict[str, list[T]]:
    """Do every job once in each round.

    Args:
        work: the jobs by name.
        repeats: rounds, after one that warms up and is not counted.
        timed: does a job and says what it cost.

    Returns:
        For each job what it cost in each round.
    """
    costs: dict[str, list[T]] = {name: [] for name in work}
    for number in range(repeats + 1):
        for name, job in work.items():
            cost = timed(job)
            if number:
                costs[name].append(cost)
    return costs


def spread(values: Sequence[float]) -> Range:
    """Return median, smallest and largest.

    >>> spread([3.0, 1.0, 2.0])
    (2.0, 1.0, 3.0)
    """
    return statistics.median(values), min(values), max(values)


def ratios(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return own / other within each round, which the machine's drift does not touch."""
    return [a / b for a, b in zip(own, other, strict=True)]
