"""Measuring the wire: start-up time and bandwidth of the collectives the exchange uses."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from thinwire.exchange import Ledger, Wire, own_wire
from thinwire.plan import Link

ENOUGH_SECONDS = 0.2  # a transfer this long says the bandwidth
MOST_BYTES = 2**26
MESSAGES = 64


def measure_link() -> Link | None:
    """This job's link, the mean over its workers; None for one worker alone.

    All workers call it together. It takes a few seconds, on a slow wire some more.
    """
    wire = own_wire(None, None, Ledger())
    if wire.world == 1:
        return None
    total = 2**16
    while True:
        own = torch.tensor([_collectives(wire, total, repeats=4)], dtype=torch.float64)
        seconds = float(wire.sum(own, "plan")) / wire.world  # the same everywhere: it branches
        if seconds > ENOUGH_SECONDS or total >= MOST_BYTES:
            break
        total *= 4
    latency, message = _start_ups(wire)
    # Each worker sends `total` bytes in either collective.
    bandwidth = 2 * total / max(seconds - 2 * (latency + (wire.world - 2) * message), 1e-9)
    shared = wire.sum(torch.tensor([latency, message, 1 / bandwidth], dtype=torch.float64), "plan")
    latency, message, pace = (shared / wire.world).tolist()
    return Link(bandwidth=1 / pace, latency=latency, message=message)


def _start_ups(wire: Wire) -> tuple[float, float]:
    """Seconds until an empty collective between two workers is done; seconds of a further message.

    A collective of K workers takes latency + (K - 2) message, MESSAGES messages at once latency +
    (MESSAGES - 1) message.
    """
    collective, together = _collectives(wire, 16, repeats=30) / 2, _messages(wire)
    message = max(0.0, together - collective) / (MESSAGES - 1 - (wire.world - 2))
    return max(0.0, collective - (wire.world - 2) * message), message


def _collectives(wire: Wire, sent: int, repeats: int) -> float:
    """Seconds of one all-to-all and one all-gather in which each worker sends ``sent`` bytes."""
    packet = max(1, sent // (wire.world - 1))
    outgoing = torch.zeros(packet * wire.world, dtype=torch.uint8)
    sizes = [packet] * wire.world

    def work() -> None:
        messages = wire.start(outgoing.split(sizes), sizes, "plan")
        messages.send()
        messages.wait()
        wire.all_gather(outgoing[:packet], "plan")

    return quartile_seconds(work, repeats)


def _messages(wire: Wire) -> float:
    """Seconds for MESSAGES small messages to a partner, all under way at once."""
    partner = wire.rank ^ 1
    if partner >= wire.world:
        partner = wire.rank  # an odd one out
    parcel = torch.zeros(64, dtype=torch.uint8)
    incoming = [torch.empty_like(parcel) for _ in range(MESSAGES)]

    def work() -> None:
        if partner == wire.rank:
            return
        requests = [dist.isend(parcel, partner, tag=i) for i in range(MESSAGES)]
        requests += [dist.irecv(into, partner, tag=i) for i, into in enumerate(incoming)]
        for request in requests:
            assert request is not None
            request.wait()

    wire.sum(torch.zeros(1), "plan")  # begin together
    return quartile_seconds(work, 10)


def quartile_seconds(work: Callable[[], object], repeats: int) -> float:
    """Lower quartile of the times of ``work``, the first call left out.

    The number of calls is fixed: where they are collectives, all workers must make as many.
    """
    times: list[float] = []
    work()
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.quantiles(times, n=4)[0]
