"""The transport of process groups in CPU memory: torch.distributed's gloo."""

import os
import weakref
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.exchange.transport.contact import in_contact
from thinwire.exchange.transport.links import Links
from thinwire.exchange.transport.point_to_point import PassedOn, PointToPoint


class Gloo:
    """Packets between processes, over one or two process groups; see ``Transport``.

    Args:
        links: between the workers; packets to lower ranks go over its ``back`` (see
            ``point_to_point``). They are released when this is closed, or not held any more.
    """

    def __init__(self, links: Links) -> None:
        self.group = links.own
        self.rank, self.world = dist.get_rank(self.group), dist.get_world_size(self.group)
        self._links = links
        self._release = weakref.finalize(self, links.release)
        self._release.atexit = False
        self._shares_links = _nodes_have_several_workers()

    def start(
        self, outgoing: Sequence[Tensor], incoming: Sequence[int], header: int
    ) -> PointToPoint:
        """See ``Transport``."""
        own = outgoing[self.rank]
        room = own.new_empty(sum(incoming)).split(list(incoming))
        return PointToPoint(self._links, self.rank, outgoing, room, header)

    def start_gather(self, packet: Tensor, sizes: Sequence[int]) -> PointToPoint:
        """See ``Transport``; from hand to hand where workers of a machine share its link."""
        if not self._shares_links:
            return self.start([packet] * self.world, sizes, 0)
        room = packet.new_empty(sum(sizes)).split(list(sizes))
        return PassedOn(self._links, self.rank, [packet] * self.world, room)

    def exchange(self, runs: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """See ``Transport``."""
        outgoing = torch.cat(list(runs))
        received = outgoing.new_empty(sum(sizes))
        sent = [run.numel() for run in runs]
        with self._links.operation(), in_contact(self.rank):
            dist.all_to_all_single(received, outgoing, list(sizes), sent, group=self.group)
        return list(received.split(list(sizes)))

    def broadcast(self, tensor: Tensor) -> None:
        """See ``Transport``."""
        source = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        with self._links.operation(), in_contact(self.rank):
            dist.broadcast(tensor, source, group=self.group)

    def all_reduce(self, tensor: Tensor) -> None:
        """See ``Transport``."""
        with self._links.operation(), in_contact(self.rank):
            dist.all_reduce(tensor, group=self.group)

    def close(self) -> None:
        """See ``Transport``."""
        self._release()


def _nodes_have_several_workers() -> bool:
    """As torchrun tells all workers alike; without it every worker is taken to be a machine."""
    nodes, workers = (int(os.environ.get(n, 0)) for n in ("GROUP_WORLD_SIZE", "WORLD_SIZE"))
    return 1 < nodes < workers
