"""The transport of a job of one worker: nothing moves."""

from collections.abc import Iterator, Sequence

import torch.distributed as dist
from torch import Tensor


class OwnPacket:
    """``Messages`` of a worker without peers: its own packet comes back as it is."""

    def __init__(self, packet: Tensor) -> None:
        self._packet = packet

    @property
    def sizes(self) -> list[int]:
        """Nothing is sent."""
        return []

    def ring(self, direction: int = 1) -> Iterator[int]:
        """Nobody."""
        return iter(())

    def send_early(self, target: int) -> None:
        """Do nothing: there is nobody to send to."""

    def send(self) -> None:
        """Do nothing: there is nobody to send to."""

    def wait(self) -> list[Tensor]:
        """Return the own packet."""
        return [self._packet]


class Alone:
    """One worker by itself; see ``Transport`` for the methods.

    Args:
        group: the process group of one, or of which one worker trains alone; None without any.
    """

    rank, world = 0, 1

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def start(self, outgoing: Sequence[Tensor], incoming: Sequence[int], header: int) -> OwnPacket:
        """See ``Transport``."""
        return OwnPacket(outgoing[0])

    def start_gather(self, packet: Tensor, sizes: Sequence[int]) -> OwnPacket:
        """See ``Transport``."""
        return OwnPacket(packet)

    def exchange(self, runs: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """See ``Transport``."""
        return list(runs)

    def broadcast(self, tensor: Tensor) -> None:
        """See ``Transport``: ``tensor`` is worker 0's already."""

    def all_reduce(self, tensor: Tensor) -> None:
        """See ``Transport``: ``tensor`` is the sum already."""

    def close(self) -> None:
        """See ``Transport``: there is nothing to let go of."""
