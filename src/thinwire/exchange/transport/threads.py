"""The transport between K workers of one process, each a thread: no network and no start-up.

``simulate`` runs a job of any number of workers on one machine, bit for bit as it would run over
process groups, with the same traffic in the ledger. Tests use it, and whoever wants to see what 64
workers would do before there are any.
"""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.exchange.transport.protocol import pieces, ring, size_of

T = TypeVar("T")


class Switch:
    """Hands what every worker puts into a round to all of them.

    Args:
        world: the number of workers.
    """

    def __init__(self, world: int) -> None:
        self.world = world
        self._rounds: dict[int, dict[int, Any]] = defaultdict(dict)
        self._taken: dict[int, int] = defaultdict(int)
        self._left: set[int] = set()
        self._changed = threading.Condition()

    def put(self, number: int, rank: int, item: Any) -> None:
        """Put a worker's item into a round."""
        with self._changed:
            self._rounds[number][rank] = item
            self._changed.notify_all()

    def take(self, number: int) -> list[Any]:
        """Wait for a round to be complete; return its items in rank order, once to each worker.

        Raises:
            RuntimeError: a worker has ended without putting anything into the round.
        """
        items = self._rounds[number]
        with self._changed:
            self._changed.wait_for(lambda: len(items) == self.world or self._left - items.keys())
            if len(items) < self.world:
                missing = min(self._left - items.keys())
                raise RuntimeError(
                    f"worker {missing} has ended while others wait for it: every worker must take "
                    "the same steps"
                )
            self._taken[number] += 1
            if self._taken[number] == self.world:
                del self._rounds[number], self._taken[number]
            return [items[rank] for rank in range(self.world)]

    def leave(self, rank: int) -> None:
        """Tell all who wait that a worker will not put anything into any round any more."""
        with self._changed:
            self._left.add(rank)
            self._changed.notify_all()


class Swapped:
    """``Messages`` over a switch: all packets of a worker change hands at once.

    Args:
        switch: between the workers.
        number: of the round.
        rank: this worker.
        outgoing: for each worker its packet.
        header: see ``Transport.start``.
    """

    def __init__(
        self, switch: Switch, number: int, rank: int, outgoing: Sequence[Tensor], header: int
    ) -> None:
        self._switch, self._number, self._rank = switch, number, rank
        self._outgoing, self._header = outgoing, header
        self._packets: list[Tensor] | None = None

    @property
    def sizes(self) -> list[int]:
        """See ``Messages``."""
        packets = [self._outgoing[peer] for peer in self.ring()]
        return [size_of(part) for packet in packets for part in pieces(packet, self._header)]

    def ring(self, direction: int = 1) -> Iterator[int]:
        """See ``Messages``."""
        return ring(self._rank, self._switch.world, direction)

    def send_early(self, target: int) -> None:
        """Do nothing: packets leave together, in ``send``."""

    def send(self) -> None:
        """See ``Messages``."""
        packets = [packet.clone() for packet in self._outgoing]
        self._switch.put(self._number, self._rank, packets)

    def wait(self) -> list[Tensor]:
        """See ``Messages``."""
        if self._packets is None:
            self._packets = [sent[self._rank] for sent in self._switch.take(self._number)]
        return self._packets


class Threads:
    """Packets between threads of one process; see ``Transport`` for the methods.

    Args:
        switch: between the workers.
        rank: this worker.
    """

    group: dist.ProcessGroup | None = None

    def __init__(self, switch: Switch, rank: int) -> None:
        self.rank, self.world = rank, switch.world
        self._switch, self._numbers = switch, itertools.count()

    def start(self, outgoing: Sequence[Tensor], incoming: Sequence[int], header: int) -> Swapped:
        """See ``Transport``."""
        return Swapped(self._switch, next(self._numbers), self.rank, list(outgoing), header)

    def start_gather(self, packet: Tensor, sizes: Sequence[int]) -> Swapped:
        """See ``Transport``."""
        return self.start([packet] * self.world, sizes, 0)

    def exchange(self, runs: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """See ``Transport``."""
        messages = self.start(runs, sizes, 0)
        messages.send()
        return messages.wait()

    def broadcast(self, tensor: Tensor) -> None:
        """See ``Transport``."""
        tensor.copy_(self._swap(tensor)[0])

    def all_reduce(self, tensor: Tensor) -> None:
        """See ``Transport``; added in rank order."""
        tensor.copy_(torch.stack(self._swap(tensor)).sum(0))

    def close(self) -> None:
        """See ``Transport``: the switch ends with the simulation."""

    def _swap(self, tensor: Tensor) -> list[Tensor]:
        number = next(self._numbers)
        self._switch.put(number, self.rank, tensor.clone())
        return self._switch.take(number)


class _Job:
    """One call of ``simulate``: who is connected with whom."""

    def __init__(self, world: int) -> None:
        self.world = world
        self._switches: dict[int, Switch] = {}
        self._left: set[int] = set()
        self._lock = threading.Lock()

    def connect(self, rank: int, number: int) -> Threads:
        """Return a worker's ``number``-th transport, connected with the others' ``number``-th."""
        with self._lock:
            if number not in self._switches:
                self._switches[number] = Switch(self.world)
                for left in self._left:
                    self._switches[number].leave(left)
            return Threads(self._switches[number], rank)

    def leave(self, rank: int) -> None:
        """Take a worker off all switches."""
        with self._lock:
            self._left.add(rank)
            for switch in self._switches.values():
                switch.leave(rank)


class _Worker(threading.local):
    """What a thread is in a simulation; in other threads ``job`` is None."""

    job: _Job | None = None
    rank = 0
    connections: Iterator[int] = iter(())


_worker = _Worker()


def simulated() -> Threads | None:
    """Return a new transport of the worker that this thread is, or None outside ``simulate``.

    As with process groups, the n-th transport that one worker makes is connected with the n-th of
    the others.
    """
    if _worker.job is None:
        return None
    return _worker.job.connect(_worker.rank, next(_worker.connections))


def simulate(workers: int, work: Callable[..., T], *args: Any) -> list[T]:
    """Run a job of several workers in this process, each in a thread of its own.

    Whatever ``work`` makes there of thinwire's optimisers talks to the same of the other workers,
    without torch.distributed. Results are those of as many processes, bit for bit. Random numbers
    must come from generators that ``work`` makes, since torch's own generator is shared by all
    threads. Every worker computes with as many threads as torch has here, so for many workers call
    ``torch.set_num_threads(1)`` first. Times mean nothing: all share this machine's processors.

    Args:
        workers: how many.
        work: called as ``work(rank, workers, *args)`` for each rank.
        args: passed on.

    Returns:
        What each call returned, in rank order.

    Raises:
        ValueError: fewer than one worker.
        Exception: the first that a worker raised; workers that wait for it end, too.

    Examples:
        >>> from torch import nn
        >>> from thinwire import OneBitSGD
        >>> def work(rank, workers):
        ...     layer = nn.Linear(2, 1, bias=False)
        ...     optimizer = OneBitSGD(layer.parameters(), lr=0.5, code="float32")
        ...     layer(torch.full((1, 2), float(rank))).sum().backward()
        ...     nn.init.zeros_(layer.weight)
        ...     optimizer.step()
        ...     return layer.weight.tolist()
        >>> simulate(3, work)[0]
        [[-0.5, -0.5]]
    """
    if workers < 1:
        raise ValueError(f"workers: expected >= 1, got {workers}")
    job, failures = _Job(workers), list[BaseException]()
    threads = torch.get_num_threads()

    def be(rank: int) -> T:
        torch.set_num_threads(threads)
        _worker.job, _worker.rank, _worker.connections = job, rank, itertools.count()
        try:
            return work(rank, workers, *args)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            job.leave(rank)

    with ThreadPoolExecutor(workers, thread_name_prefix="worker") as pool:
        futures = [pool.submit(be, rank) for rank in range(workers)]
    if failures:
        raise failures[0]
    return [future.result() for future in futures]
