"""Links and what a collective takes on them: flat, or fast inside a node and thin between nodes.

A collective's time is its start-up plus the bytes of the busiest link over that link's bandwidth.
All links are full duplex and carry every worker's stream at once, as a switch does.
"""

from dataclasses import dataclass

ETHERNET_GOODPUT = 1448 / 1514
"""Payload in a full Ethernet frame: 1500 bytes less 52 of IP and TCP, of 1514 on the link."""


@dataclass(frozen=True)
class Link:
    """One worker's (or node's) connection.

    Attributes:
        bandwidth: bytes of payload per second, each way.
        latency: seconds until an empty collective between two workers is done.
        message: seconds each further message of the same collective costs, sent concurrently.
        waiting: seconds a collective takes longer within a training step, once: workers do not
            begin together, and threads that wait for the wire wait for a processor too.
    """

    bandwidth: float
    latency: float = 0.0
    message: float = 0.0
    waiting: float = 0.0

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth: expected > 0 bytes/s, got {self.bandwidth}")
        times = self.latency, self.message, self.waiting
        if not all(seconds >= 0 for seconds in times):
            raise ValueError(f"latency, message and waiting: expected >= 0 s, got {times}")


@dataclass(frozen=True)
class Network:
    """How workers are connected.

    Attributes:
        outer: each node's link to the others.
        inner: each worker's link to workers of its node; needed if there are several.
        per_node: workers in a node, g. Ranks are consecutive in a node.
    """

    outer: Link
    inner: Link | None = None
    per_node: int = 1

    def __post_init__(self) -> None:
        if self.per_node < 1:
            raise ValueError(f"per_node: expected >= 1, got {self.per_node}")
        if self.per_node > 1 and self.inner is None:
            raise ValueError("inner: expected a link inside the node where per_node > 1, got none")

    def all_to_all(self, sent: float, workers: float) -> float:
        """Seconds for a worker to send each of the others its packet.

        All messages are under way at once. In a node of g workers the thin link carries the packets
        of all g for the K - g workers elsewhere.

        Args:
            sent: bytes each worker sends, to all K - 1 peers together.
            workers: K.

        >>> Network(Link(1e6)).all_to_all(3e6, 4)
        3.0
        >>> Network(Link(1e6), Link(1e9), per_node=2).all_to_all(3e6, 4)
        4.0
        """
        if workers <= 1:
            return 0.0
        together = min(self.per_node, workers)
        outside = together * (workers - together) / (workers - 1) * sent
        inside = (together - 1) / (workers - 1) * sent
        link = self._link(workers)
        seconds = link.waiting + link.latency + (workers - 2) * link.message
        return seconds + max(outside / self.outer.bandwidth, self._inside(inside))

    def all_gather(self, packet: float, workers: float) -> float:
        """Seconds for every worker to get every packet.

        Each sends its own to all at once; where several share a thin link packets are passed on
        around a ring, so that each crosses it once (as `exchange.messages` does).

        Args:
            packet: bytes of each worker's packet.
            workers: K.

        >>> Network(Link(1e6, latency=0.5)).all_gather(1e6, 3)
        2.5
        """
        if 1 < self.per_node < workers:
            return self._link(workers).waiting + self._around_a_ring(packet, workers)
        return self.all_to_all((workers - 1) * packet, workers)

    def all_reduce(self, total: float, workers: float) -> float:
        """Seconds to sum ``total`` bytes over all workers: a ring's reduce-scatter and all-gather.

        >>> Network(Link(1e6)).all_reduce(2e6, 2)
        2.0
        """
        if workers <= 1:
            return 0.0
        return self._link(workers).waiting + 2 * self._around_a_ring(total / workers, workers)

    def _around_a_ring(self, packet: float, workers: float) -> float:
        """K - 1 rounds, each one packet over every link, of which one leaves each node."""
        slowest = packet / self.outer.bandwidth if workers > self.per_node else 0.0
        return (workers - 1) * (self._link(workers).latency + max(slowest, self._inside(packet)))

    def _link(self, workers: float) -> Link:
        """The link messages wait for: the thin one, unless all workers are in one node."""
        return self.outer if workers > self.per_node or self.inner is None else self.inner

    def _inside(self, sent: float) -> float:
        return sent / self.inner.bandwidth if self.inner is not None and self.per_node > 1 else 0.0
