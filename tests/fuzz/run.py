"""Worker processes which read mutated inputs, each under an alarm and a bound on its memory."""

import multiprocessing
import random
import resource
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from tests.fuzz.families import Families

SECONDS = 20  # for one input
MEMORY = 1 << 30  # bytes more than the process had before the first input

Outcomes = dict[str, Counter[str]]


class Hang(BaseException):
    """An input took longer than it may."""


def fuzz(counts: Mapping[str, int], seed: int, processes: int) -> tuple[Outcomes, list[str]]:
    """Read inputs 0, 1, ... of each family.

    Returns:
        Outcomes by family, and one line for each failure.
    """
    parts = [(dict(counts), seed, first, processes) for first in range(processes)]
    if processes == 1:
        done = [_part(*parts[0])]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            done = pool.starmap(_part, parts)
    total: Outcomes = {name: Counter() for name in counts}
    for outcomes, _ in done:
        for name, counter in outcomes.items():
            total[name] += counter
    return total, [line for _, failures in done for line in failures]


def reproduce(family: str, seed: int, number: int) -> str:
    """Read one input again; its exception, if any, comes through."""
    with tempfile.TemporaryDirectory() as folder:
        families = Families(Path(folder))
        return families.all[family](_random(family, seed, number))


def _random(family: str, seed: int, number: int) -> random.Random:
    return random.Random(f"{family} {seed} {number}")


def _part(counts: dict[str, int], seed: int, first: int, step: int) -> tuple[Outcomes, list[str]]:
    outcomes: Outcomes = {name: Counter() for name in counts}
    failures = []
    limits = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, _ring)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        families = Families(Path(folder))
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, limits[1]))
        try:
            for name, count in counts.items():
                for number in range(first, count, step):
                    outcome = _one(families, name, seed, number)
                    outcomes[name][outcome.split(":")[0]] += 1
                    if outcome not in ("read", "refused"):
                        failures.append(
                            f"--family {name} --seed {seed} --number {number}: {outcome}"
                        )
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            signal.signal(signal.SIGALRM, previous)
    return outcomes, failures


def _one(families: Families, name: str, seed: int, number: int) -> str:
    signal.alarm(SECONDS)
    try:
        outcome = families.all[name](_random(name, seed, number))
        families.check_canary()
    except Hang:
        return "hang"
    except MemoryError:
        return "memory"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"failed: {type(error).__name__} {str(error)[:100]} ({where.filename}:{where.lineno})"
        )
    finally:
        signal.alarm(0)
    return outcome


def _ring(number: int, frame: FrameType | None) -> None:
    raise Hang


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
