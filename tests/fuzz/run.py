"""Processes which read mutated inputs, each input under an alarm, a watch and a bound on memory.

What is counted as a failure: an exception that is no refusal, a hang, an execution or a write
elsewhere (``watch``), and an input that lifts the memory of the process that reads it, torch and
all else included, above a gibibyte. That is the kernel's high-water mark of resident memory. A
limit on the address space stops what would fill the machine before.
"""

import contextlib
import faulthandler
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tests.fuzz.families import Families
from tests.fuzz.watch import Watch

SECONDS = 20  # for one input
MEMORY = 1 << 30  # bytes resident, in all
GROWTH = 2 << 30  # bytes of address space beyond those before the first input
PART = 250  # inputs that a process is given at a time


class Hang(BaseException):
    """An input took longer than it may."""


@dataclass
class Found:
    """What reading the inputs of one family came to.

    Attributes:
        outcomes: how many were read, refused or failed.
        failures: a line for each failure, which says how to repeat it.
        seconds: over all processes.
        peak: the most memory a process had in use by then.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0

    def add(self, other: "Found") -> None:
        """Take another part of the same family in."""
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.seconds += other.seconds
        self.peak = max(self.peak, other.peak)


def fuzz(counts: Mapping[str, int], seed: int, processes: int) -> dict[str, Found]:
    """Read inputs 0, 1, ... of each family, so many of each.

    One process reads them here; several are started for it.
    """
    total = {name: Found() for name in counts}
    with tempfile.TemporaryDirectory() as folder:
        if processes == 1:
            with _reader(Path(folder)) as reader:
                for name, count in counts.items():
                    total[name].add(reader.read(name, seed, range(count)))
            return total
        parts = [
            (name, range(first, min(first + PART, count)))
            for name, count in counts.items()
            for first in range(0, count, PART)
        ]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, _start, (folder,)) as pool:
            numbers_of = {
                pool.submit(_read, name, seed, part): (name, part) for name, part in parts
            }
            for done in as_completed(numbers_of):
                name, numbers = numbers_of[done]
                try:
                    found = done.result()
                except BrokenProcessPool:
                    where = f"--family {name} --seed {seed}, one of numbers {numbers}"
                    found = Found(Counter(lost=1), [f"{where} or others: a process died"])
                total[name].add(found)
    return total


def reproduce(family: str, seed: int, number: int) -> str:
    """Read one input again; its exception, if any, comes through."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return Families(Path(folder)).all[family](_random(family, seed, number))


class _Reader:
    """Reads inputs in this process."""

    def __init__(self, folder: Path) -> None:
        self._families, self._watch = Families(folder), Watch(folder)

    def read(self, name: str, seed: int, numbers: range) -> Found:
        """Read these inputs of a family."""
        found, begun = Found(), time.perf_counter()
        for number in numbers:
            before = _high_water()
            outcome = self._one(name, seed, number)
            found.peak = max(found.peak, _high_water())
            if found.peak > max(before, MEMORY):
                outcome = f"memory: {found.peak >> 20} MiB ({outcome})"
            found.outcomes[outcome.split(":")[0]] += 1
            if outcome not in ("read", "refused"):
                repeat = f"--family {name} --seed {seed} --number {number}"
                found.failures.append(f"{repeat}: {outcome}")
        found.seconds = time.perf_counter() - begun
        return found

    def _one(self, name: str, seed: int, number: int) -> str:
        signal.alarm(SECONDS)
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True)  # if Python cannot take the alarm
        try:
            with self._watch:
                outcome = self._families.all[name](_random(name, seed, number))
            self._watch.check()
        except Hang:
            return "hang"
        except MemoryError:
            return "memory: refused by the system"
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} {str(error)[:100]!r}"
            return f"failed: {what} ({where.filename}:{where.lineno})"
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.alarm(0)
        return outcome


@contextlib.contextmanager
def _reader(folder: Path) -> Iterator[_Reader]:
    """A reader under limits, which end with it."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, _ring)
    with warnings.catch_warnings(), contextlib.chdir(folder):
        warnings.simplefilter("ignore")
        reader = _Reader(folder)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + GROWTH, limits[1]))
        try:
            yield reader
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            signal.signal(signal.SIGALRM, previous)


_held = contextlib.ExitStack()  # for as long as a started process lives
_of_process: list[_Reader] = []


def _start(folder: str) -> None:
    own = Path(folder) / str(os.getpid())
    own.mkdir()
    _of_process.append(_held.enter_context(_reader(own)))


def _read(name: str, seed: int, numbers: range) -> Found:
    return _of_process[0].read(name, seed, numbers)


def _random(family: str, seed: int, number: int) -> random.Random:
    return random.Random(f"{family} {seed} {number}")


def _ring(number: int, frame: FrameType | None) -> None:
    raise Hang


def _high_water() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
