"""W workers of one process, each a thread, and the wire between them: no network, no start-up."""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.conftest import THREADS
from thinwire.exchange import Ledger, Wire


class Switch:
    """Hands what every worker puts in to all of them."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.barrier = threading.Barrier(world, timeout=30)
        self._slots: list[Any] = [None] * world

    def swap(self, rank: int, item: Any) -> list[Any]:
        self._slots[rank] = item
        self.barrier.wait()
        items = list(self._slots)
        self.barrier.wait()
        return items


class Swapped:
    """``Messages`` over a switch: all packets change hands at once."""

    def __init__(self, switch: Switch, rank: int, outgoing: Sequence[Tensor]) -> None:
        self._switch, self._rank, self._outgoing = switch, rank, outgoing
        self._packets: list[Tensor] = []

    def ring(self, direction: int = 1) -> list[int]:
        world = self._switch.world
        return [(self._rank + direction * i) % world for i in range(1, world)]

    def send_early(self, target: int) -> None:
        """Nothing leaves before ``send``."""

    def send(self) -> None:
        sent = self._switch.swap(self._rank, [packet.clone() for packet in self._outgoing])
        self._packets = [packets[self._rank] for packets in sent]

    def receive(self, source: int) -> Tensor:
        return self._packets[source]

    def wait(self) -> list[Tensor]:
        return self._packets


class ThreadWire(Wire):
    """The collectives of ``Wire`` over a switch."""

    def __init__(self, switch: Switch, rank: int, ledger: Ledger) -> None:
        self.group, self.ledger, self.spans = None, ledger, None
        self.switch, self.rank, self.world = switch, rank, switch.world
        self.shares_links = False

    def start(  # type: ignore[override]
        self, outgoing: Sequence[Tensor], incoming: Sequence[int], stage: str, header: int = 0
    ) -> "Swapped":
        sent = [packet.numel() * packet.itemsize for packet in outgoing]
        del sent[self.rank]
        self.ledger.record(stage, messages=len(sent), bytes=sum(sent))
        return Swapped(self.switch, self.rank, outgoing)

    def broadcast(self, tensor: Tensor, stage: str) -> None:
        tensor.copy_(self.switch.swap(self.rank, tensor.clone())[0])

    def exchange(self, runs: Sequence[Tensor], sizes: Sequence[int], stage: str) -> list[Tensor]:
        return [given[self.rank] for given in self.switch.swap(self.rank, list(runs))]


def run_threads(world: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """[work(rank, world, *args) for each rank], the optimisers inside talking to each other.

    As with process groups, the n-th optimiser of one rank is connected with the n-th of the others.
    """
    switches: dict[int, Switch] = defaultdict(lambda: Switch(world))
    own, lock = threading.local(), threading.Lock()

    def be_rank(rank: int) -> Any:
        torch.set_num_threads(THREADS)
        own.rank, own.wires = rank, itertools.count()
        try:
            return work(rank, world, *args)
        except BaseException:
            for switch in switches.values():
                switch.barrier.abort()
            raise

    def wire(group: object, timeout: object, ledger: Ledger) -> Wire:
        with lock:
            return ThreadWire(switches[next(own.wires)], own.rank, ledger)

    with (
        mock.patch("thinwire.optim.exchanged.own_wire", wire),
        ThreadPoolExecutor(world) as pool,
    ):
        return [future.result() for future in [pool.submit(be_rank, k) for k in range(world)]]
