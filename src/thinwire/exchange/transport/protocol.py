"""What a transport does: move tensors between K workers, in the order in which all ask for it.

A transport knows nothing of codes, buckets or accounts; ``exchange.wire.Wire`` enters in the ledger
what it is told to move. Every worker must ask for the same operations in the same order, with
fitting sizes. An operation is *data plane*: its tensors lie wherever the transport says it takes
them. Headers, counts and verdicts are *control plane*: small tensors in CPU memory.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch.distributed as dist
from torch import Tensor

EARLY_BYTES = 1 << 16  # so long a packet is worth a second message: most of it starts early


class Messages(Protocol):
    """One packet from this worker to every other one, and one from each of them."""

    @property
    def sizes(self) -> list[int]:
        """Bytes of all messages that this worker sends, in the order in which they leave."""
        ...

    def ring(self, direction: int = 1) -> Iterator[int]:
        """The other workers, the next one first (direction 1) or the one before (-1)."""
        ...

    def send_early(self, target: int) -> None:
        """Begin to send a long packet whose header is not known yet; others wait for ``send``."""
        ...

    def send(self) -> None:
        """Begin to send whatever is not under way yet."""
        ...

    def wait(self) -> list[Tensor]:
        """Return all packets in rank order; what was sent may be overwritten from now on."""
        ...


class Transport(Protocol):
    """How tensors move between the workers of one job.

    Only one thread may use a transport at a time.

    Attributes:
        rank: this worker.
        world: the number of workers, K.
        group: the process group beneath, for torch's own collectives; None where there is none.
    """

    rank: int
    world: int
    group: dist.ProcessGroup | None

    def start(self, outgoing: Sequence[Tensor], incoming: Sequence[int], header: int) -> Messages:
        """Get ready to send one packet to every worker and to receive one from each.

        Args:
            outgoing: for each worker its packet, all of one dtype; the bytes need not be there
                before they are sent. The packet for this worker itself is handed back as it is.
            incoming: for each worker how many elements it sends here.
            header: the first so many elements of a long packet may travel last, in a message of
                their own, so that the rest can leave before they are known. 0: never.
        """
        ...

    def start_gather(self, packet: Tensor, sizes: Sequence[int]) -> Messages:
        """Get ready to send one packet to all and to receive everyone's.

        Args:
            packet: this worker's; the bytes need not be there before it is sent.
            sizes: for each worker how many elements its packet has.
        """
        ...

    def exchange(self, runs: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Send any run of values to any worker; return what each sent here, in rank order.

        Args:
            runs: for each worker what to send it, of one dtype; may be empty.
            sizes: for each worker how many values it sends here.
        """
        ...

    def broadcast(self, tensor: Tensor) -> None:
        """Overwrite ``tensor`` by worker 0's."""
        ...

    def all_reduce(self, tensor: Tensor) -> None:
        """Overwrite ``tensor`` by its sum over workers, the same to the bit on every worker."""
        ...

    def close(self) -> None:
        """Let go of the connections; nothing may be under way, nor be asked for any more."""
        ...


def ring(rank: int, world: int, direction: int = 1) -> Iterator[int]:
    """Yield the other workers, the next one first (direction 1) or the one before (-1).

    >>> [*ring(1, 4)], [*ring(1, 4, -1)]
    ([2, 3, 0], [0, 3, 2])
    """
    return ((rank + direction * i) % world for i in range(1, world))


def pieces(packet: Tensor, header: int) -> list[Tensor]:
    """Cut a packet into the messages it travels in, in their order; an empty one does not travel.

    Args:
        packet: 1-d.
        header: see ``Transport.start``.
    """
    if header and packet.numel() >= EARLY_BYTES:
        return [packet[header:], packet[:header]]
    return [packet] if packet.numel() else []


def size_of(tensor: Tensor) -> int:
    """Bytes of a tensor's values."""
    return tensor.numel() * tensor.itemsize
