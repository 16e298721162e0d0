"""What one worker wishes for, all learn at the same step: a byte from each, now and then.

The byte travels while the next step computes; what was wished before one step is agreed on before
the next. So it costs no waiting, and no worker can stop while another goes on.
"""

import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.exchange import Wire

T = TypeVar("T")
SAVE = 1  # a checkpoint is due
PACE = 0.1  # seconds between exchanges, where steps are shorter
_IN_TOUCH = 1.0  # seconds between the meetings of workers that wait for one of them
_WISH_BITS = 3
_LONGEST = 7  # log2 of the most steps between exchanges
_BIT_OF = {signal.SIGINT: 2, signal.SIGTERM: 4}


def wish_to_stop(number: int) -> int:
    """The wish to stop because of a signal; 0 is none."""
    return _BIT_OF.get(number, 0)  # type: ignore[call-overload, no-any-return]


def signal_of(agreed: int) -> int:
    """The signal for which the workers stop, or 0."""
    return next((number for number, bit in _BIT_OF.items() if agreed & bit), 0)


class Agreement:
    """The wishes of all workers.

    Exchanges are ``PACE`` seconds apart: where steps are shorter, several steps. Worker 0 measures
    and says in its byte how many (a power of two), so that all leave out the same ones.

    Args:
        wire: the workers; only the main thread may use it.
        every_step: never leave one out.
    """

    def __init__(self, wire: Wire, *, every_step: bool = False) -> None:
        self._wire, self._every_step = wire, every_step
        self._pending: Callable[[], int] | None = None
        self._steps_to_wait = self._interval = 1
        self._posted_at = time.monotonic()

    def post(self, wish: int) -> None:
        """Tell the others; returns at once. Every worker must call it once per step.

        A wish may be left out: repeat it until ``receive`` returns it.
        """
        self._steps_to_wait -= 1
        if self._steps_to_wait > 0:
            return
        if self._wire.world == 1:
            self._pending = lambda: wish
            return
        byte = wish | (self._pace() << _WISH_BITS if self._wire.rank == 0 else 0)
        everyone = [torch.zeros(1, dtype=torch.uint8) for _ in range(self._wire.world)]
        own = torch.tensor([byte], dtype=torch.uint8)
        work = dist.all_gather(everyone, own, group=self._wire.group, async_op=True)
        peers = self._wire.world - 1
        self._wire.ledger.record("agreement", messages=peers, bytes=peers)
        self._pending = lambda: _union(work, everyone)

    def receive(self) -> int:
        """All workers' wishes of the last ``post``, or-ed; the same on every worker."""
        if self._pending is None:
            return 0
        agreed, self._pending = self._pending(), None
        self._steps_to_wait = self._interval = 1 << (agreed >> _WISH_BITS)
        return agreed & ((1 << _WISH_BITS) - 1)

    def _pace(self) -> int:
        """log2 of the number of steps to the next exchange."""
        now = time.monotonic()
        seconds = (now - self._posted_at) / self._interval
        self._posted_at = now
        if self._every_step:
            return 0
        return min(_LONGEST, max(0, int(math.log2(max(PACE, 1e-9) / max(seconds, 1e-9)))))


def keeping_in_touch(work: Callable[[], T], wire: Wire) -> T:
    """Do work that may take one worker longer than a collective may take.

    Until it has ended on every worker all meet every second, on a thread beside it. So who only
    waits does not take the others for lost.

    Args:
        work: this worker's; it may not communicate over this wire.
        wire: the workers, each of which must call it.

    Returns:
        What this worker's work returned.
    """
    if wire.world == 1:
        return work()
    ended = Event()
    with ThreadPoolExecutor(1) as pool:
        meetings = pool.submit(_meet_until_all, ended, wire)
        try:
            done = work()
        finally:
            ended.set()
        meetings.result()
    return done


def _meet_until_all(ended: Event, wire: Wire) -> None:
    """Meet every second until what is waited for has ended on every worker."""
    while True:
        ended.wait(_IN_TOUCH)
        own = torch.tensor([ended.is_set()], dtype=torch.uint8)
        # How often depends on a machine's speed, so it is not in the accounts of the run.
        if all(wire.apart().all_gather(own, "in touch")):
            return


def gather_texts(text: str, wire: Wire) -> list[str]:
    """Every worker's text (its first 160 bytes), in rank order, on every worker."""
    padded = text.encode()[:160].ljust(160)
    packet = torch.frombuffer(bytearray(padded), dtype=torch.uint8)
    texts = [bytes(other.tolist()) for other in wire.all_gather(packet, "checkpoint")]
    return [raw.decode(errors="replace").rstrip() for raw in texts]


def _union(work: "dist.Work", everyone: list[Tensor]) -> int:
    work.wait()
    agreed = 0
    for wish in everyone:
        agreed |= int(wish)
    return agreed
