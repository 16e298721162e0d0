"""One packet from every worker to every other: begun together, waited for one by one.

gloo's own collectives are not used on the CPU: they go through a thread of their own and, for
all_gather, around a ring, where each hop waits for another thread to wake up.

gloo lets one thread at a time touch the connection of two workers. Where the one that writes loses
its processor, the one that came to read turns on the spot until the scheduler's next tick, up to 4
ms. So packets to lower ranks go over connections of their own (``back``), and receives should be
posted (a ``Messages`` made) well before the packets are sent: a connection is then written to from
one end only. With two workers on two processors this halves the time of a short exchange.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

EARLY_BYTES = 1 << 16  # so long a packet is worth a second message: most of it starts early


class Messages:
    """One packet to and one from every worker, itself included.

    Worker k writes to k + 1 first, then to k + 2, ..., so that no two begin with the same receiver.
    Every worker must begin the same exchanges in the same order, with the same sizes. On other
    devices than the CPU everything is posted in one batch by ``wait``.

    Args:
        group: the workers.
        back: the same workers over other connections, for what travels to a lower rank; may be
            ``group`` itself.
        rank: this worker.
        outgoing: for each worker its packet; the bytes need not be there before they are sent.
        incoming: for each worker room for what it sends here; this worker's own packet is taken
            as it is.
        header: the first so many elements of a long packet travel last, in a message of their own,
            so that the rest can be sent before they are known (``send_early``). 0: never.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None,
        back: dist.ProcessGroup | None,
        rank: int,
        outgoing: Sequence[Tensor],
        incoming: Sequence[Tensor],
        header: int = 0,
    ) -> None:
        self._group, self._back, self._rank, self._header = group, back, rank, header
        self._outgoing, self._incoming = list(outgoing), list(incoming)
        self._incoming[rank] = self._outgoing[rank]
        self._batch: list[dist.P2POp] = []
        self._receives: dict[int, list[dist.Work]] = {}
        self._sends: list[dist.Work] = []
        self._begun: set[int] = set()
        self._expect()

    def ring(self, direction: int = 1) -> Iterator[int]:
        """The other workers, the next one first (direction 1) or the one before (-1)."""
        world = len(self._outgoing)
        return ((self._rank + direction * i) % world for i in range(1, world))

    @property
    def sizes(self) -> list[int]:
        """Bytes of all messages that this worker sends."""
        pieces = [piece for peer in self.ring() for piece in self._pieces(self._outgoing[peer])]
        return [_bytes(piece) for piece in pieces]

    def send_early(self, target: int) -> None:
        """Begin to send a packet whose header is not known yet, if it is a long one."""
        pieces = self._pieces(self._outgoing[target])
        if target != self._rank and len(pieces) > 1:
            self._begun.add(target)
            self._sends += self._post(dist.isend, pieces[0], group_dst=target)

    def send(self) -> None:
        """Begin to send whatever of all packets is not under way yet."""
        for target in self.ring():
            for piece in self._pieces(self._outgoing[target])[target in self._begun :]:
                self._sends += self._post(dist.isend, piece, group_dst=target)

    def receive(self, source: int) -> Tensor:
        """A worker's packet, as soon as it is there. Ask for them in the order ``ring(-1)``."""
        if self._batch:
            self.wait()
        for work in self._receives.pop(source, ()):
            work.wait()
        return self._incoming[source]

    def wait(self) -> list[Tensor]:
        """All packets, in rank order; what was sent may be overwritten now."""
        works = dist.batch_isend_irecv(self._batch) if self._batch else []
        self._batch = []
        for source in self.ring(-1):
            self.receive(source)
        for work in [*works, *self._sends]:
            work.wait()
        self._sends = []
        return self._incoming

    def _expect(self) -> None:
        """Make room known to the transport before anything arrives."""
        for source in self.ring(-1):
            self._receives[source] = [
                work
                for piece in self._pieces(self._incoming[source])
                for work in self._post(dist.irecv, piece, group_src=self._giver(source))
            ]

    def _giver(self, owner: int) -> int:
        """Who hands over a worker's packet."""
        return owner

    def _pieces(self, packet: Tensor) -> list[Tensor]:
        """In the order in which they travel; nothing travels of an empty packet."""
        if self._header and packet.numel() >= EARLY_BYTES:
            return [packet[self._header :], packet[: self._header]]
        return [packet] if packet.numel() else []

    def _post(self, operation: Callable[..., Any], piece: Tensor, **peer: int) -> list[dist.Work]:
        (rank,) = peer.values()
        if piece.device.type == "cpu":
            source, target = (rank, self._rank) if "group_src" in peer else (self._rank, rank)
            group = self._group if source < target else self._back
            return [operation(piece, group=group, **peer)]
        self._batch.append(dist.P2POp(operation, piece, group=self._group, group_peer=rank))
        return []


class PassedOn(Messages):
    """One packet to all, from hand to hand: every worker sends to the next one only.

    As many bytes for each worker as ``Messages``, but where several workers share a machine and its
    link, each packet goes once over that link and not once for each worker behind it. It takes
    K - 1 hops in a row.
    """

    @property
    def sizes(self) -> list[int]:
        """Bytes of all messages that this worker sends: all packets but the next one's own."""
        own = self._outgoing[self._rank]
        passed = [self._incoming[owner] for owner in self.ring(-1) if owner != self._next]
        return [_bytes(packet) for packet in (own, *passed) if packet.numel()]

    def send(self) -> None:
        """Begin with this worker's own."""
        self._pass_on(self._rank)

    def receive(self, source: int) -> Tensor:
        """A packet as soon as it is there, on its way to the next worker already."""
        arriving = source in self._receives
        packet = super().receive(source)
        if arriving and source != self._next:
            self._pass_on(source)
        return packet

    @property
    def _next(self) -> int:
        return (self._rank + 1) % len(self._outgoing)

    def _pass_on(self, owner: int) -> None:
        for piece in self._pieces(self._incoming[owner]):
            self._sends += self._post(dist.isend, piece, group_dst=self._next)

    def _giver(self, owner: int) -> int:
        return (self._rank - 1) % len(self._outgoing)


def _bytes(piece: Tensor) -> int:
    return piece.numel() * piece.itemsize
