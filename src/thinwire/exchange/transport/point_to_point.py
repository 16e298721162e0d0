"""One packet from every worker to every other, in messages between two workers each.

gloo's own collectives are not used on the CPU: they go through a thread of their own and, for
all_gather, around a ring, where each hop waits for another thread to wake up.

gloo lets one thread at a time touch the connection of two workers. Where the one that writes loses
its processor, the one that came to read turns on the spot until the scheduler's next tick, up to 4
ms. So packets to lower ranks go over connections of their own (``back``), and receives should be
posted (a ``PointToPoint`` made) well before the packets are sent: a connection is then written to
from one end only. With two workers on two processors this halves the time of a short exchange.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch.distributed as dist
from torch import Tensor

from thinwire.exchange.transport.contact import in_contact
from thinwire.exchange.transport.links import Links
from thinwire.exchange.transport.protocol import pieces, ring, size_of


class PointToPoint:
    """One packet to and one from every worker, itself included; see ``Messages``.

    Worker k writes to k + 1 first, then to k + 2, ..., so that no two begin with the same receiver.

    Args:
        links: between the workers; what travels to a lower rank goes over its ``back``.
        rank: this worker.
        outgoing: for each worker its packet; the bytes need not be there before they are sent.
        incoming: for each worker room for what it sends here; this worker's own packet is taken
            as it is.
        header: see ``Transport.start``.

    Raises:
        ValueError: a packet that does not lie in CPU memory, where gloo takes them.
    """

    def __init__(
        self,
        links: Links,
        rank: int,
        outgoing: Sequence[Tensor],
        incoming: Sequence[Tensor],
        header: int = 0,
    ) -> None:
        self._links, self._rank, self._header = links, rank, header
        self._outgoing, self._incoming = list(outgoing), list(incoming)
        self._incoming[rank] = self._outgoing[rank]
        self._receives: dict[int, list[dist.Work]] = {}
        self._sends: list[dist.Work] = []
        self._begun: set[int] = set()
        links.under_way += 1
        self._ended = False
        self._expect()

    def ring(self, direction: int = 1) -> Iterator[int]:
        """The other workers, the next one first (direction 1) or the one before (-1)."""
        return ring(self._rank, len(self._outgoing), direction)

    @property
    def sizes(self) -> list[int]:
        """Bytes of all messages that this worker sends."""
        return [size_of(part) for peer in self.ring() for part in self._parts(self._outgoing[peer])]

    def send_early(self, target: int) -> None:
        """Begin to send a packet whose header is not known yet, if it is a long one."""
        parts = self._parts(self._outgoing[target])
        if target != self._rank and len(parts) > 1:
            self._begun.add(target)
            self._sends.append(self._send_to(target, parts[0]))

    def send(self) -> None:
        """Begin to send whatever of all packets is not under way yet."""
        for target in self.ring():
            for part in self._parts(self._outgoing[target])[target in self._begun :]:
                self._sends.append(self._send_to(target, part))

    def wait(self) -> list[Tensor]:
        """All packets, in rank order; what was sent may be overwritten now."""
        for source in self.ring(-1):
            self._receive(source)
        with in_contact(self._rank):
            for work in self._sends:
                work.wait()
        self._sends = []
        if not self._ended:
            self._ended = True
            self._links.under_way -= 1
        return self._incoming

    def _receive(self, source: int) -> None:
        """Wait for a worker's packet."""
        with in_contact(self._rank):
            for work in self._receives.pop(source, ()):
                work.wait()

    def _expect(self) -> None:
        """Make room known to gloo before anything arrives."""
        if self._outgoing[self._rank].device.type != "cpu":
            device = self._outgoing[self._rank].device
            raise ValueError(f"transport gloo: expected packets in CPU memory, got {device}")
        for source in self.ring(-1):
            giver = self._giver(source)
            self._receives[source] = [
                self._receive_from(giver, part) for part in self._parts(self._incoming[source])
            ]

    def _giver(self, owner: int) -> int:
        """Who hands over a worker's packet."""
        return owner

    def _parts(self, packet: Tensor) -> list[Tensor]:
        return pieces(packet, self._header)

    def _receive_from(self, giver: int, part: Tensor) -> dist.Work:
        with in_contact(self._rank):
            work = dist.irecv(part, group=self._path(giver, self._rank), group_src=giver)
        return cast(dist.Work, work)  # None is for processes that are not in the group

    def _send_to(self, target: int, part: Tensor) -> dist.Work:
        with in_contact(self._rank):
            work = dist.isend(part, group=self._path(self._rank, target), group_dst=target)
        return cast(dist.Work, work)

    def _path(self, source: int, target: int) -> dist.ProcessGroup | None:
        """The connections between two workers that are written to from this end."""
        return self._links.own if source < target else self._links.back


class PassedOn(PointToPoint):
    """One packet to all, from hand to hand: every worker sends to the next one only.

    As many bytes for each worker as ``PointToPoint``, but where several workers share a machine and
    its link, each packet goes once over that link and not once for each worker behind it. It takes
    K - 1 hops in a row.
    """

    @property
    def sizes(self) -> list[int]:
        """Bytes of all messages that this worker sends: all packets but the next one's own."""
        own = self._outgoing[self._rank]
        passed = [self._incoming[owner] for owner in self.ring(-1) if owner != self._next]
        return [size_of(packet) for packet in (own, *passed) if packet.numel()]

    def send(self) -> None:
        """Begin with this worker's own."""
        self._pass_on(self._rank)

    @property
    def _next(self) -> int:
        return (self._rank + 1) % len(self._outgoing)

    def _pass_on(self, owner: int) -> None:
        for part in self._parts(self._incoming[owner]):
            self._sends.append(self._send_to(self._next, part))

    def _receive(self, source: int) -> None:
        """Wait for a packet, and send it on its way to the next worker."""
        arriving = source in self._receives
        super()._receive(source)
        if arriving and source != self._next:
            self._pass_on(source)

    def _giver(self, owner: int) -> int:
        return (self._rank - 1) % len(self._outgoing)
