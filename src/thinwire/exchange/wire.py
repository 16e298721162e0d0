"""The wire: torch.distributed's collectives, with every byte entered in the ledger.

A job of one worker needs no process group; what it would send is handed straight back to it and
nothing is counted.
"""

import copy
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.exchange.ledger import Ledger
from thinwire.exchange.timeline import Span


class Arrival:
    """Packets that are on their way."""

    def __init__(self, packets: list[Tensor], work: dist.Work | None = None) -> None:
        self._packets, self._work = packets, work

    def wait(self) -> list[Tensor]:
        """One packet from each worker, in rank order."""
        if self._work is not None:
            self._work.wait()
        return self._packets


class Wire:
    """One process group and its ledger.

    Only one thread may use a wire at a time: collectives are matched by the order of the calls.

    Args:
        group: the workers; None is the default group, or this process alone where
            torch.distributed is not initialised.
        ledger: where traffic is entered.

    Attributes:
        spans: where exchanges over this wire enter when they did what; None: nowhere.
    """

    def __init__(self, group: dist.ProcessGroup | None, ledger: Ledger) -> None:
        self.group = group
        self.ledger = ledger
        self.spans: list[Span] | None = None
        alone = not (dist.is_available() and dist.is_initialized())
        self.world = 1 if alone else dist.get_world_size(group)
        self.rank = 0 if alone else dist.get_rank(group)

    def alone(self) -> "Wire":
        """A wire of this worker by itself, on the same ledger: nothing is sent, all is summed."""
        wire = copy.copy(self)
        wire.world, wire.rank = 1, 0
        return wire

    def apart(self) -> "Wire":
        """The same wire with accounts of its own, for what goes on beside the caller's work."""
        wire = copy.copy(self)
        wire.ledger, wire.spans = Ledger(), []
        return wire

    def start_all_to_all(self, outgoing: Tensor, sizes: Sequence[int], stage: str) -> Arrival:
        """Begin to send each worker its packet and to receive one from each.

        Args:
            outgoing: uint8, the packets end to end, in rank order.
            sizes: their lengths; every worker must pass the same ones, so that ``sizes[rank]``
                is what each sends to this worker.
            stage: where the ledger enters it.

        Returns:
            The packets that will have been received, this worker's own among them.
        """
        if self.world == 1:
            return Arrival([outgoing])
        incoming = [sizes[self.rank]] * self.world
        received = outgoing.new_empty(sum(incoming))
        work = dist.all_to_all_single(
            received, outgoing, incoming, list(sizes), group=self.group, async_op=True
        )
        sent = [size for rank, size in enumerate(sizes) if rank != self.rank]
        self.ledger.record(stage, messages=sum(size > 0 for size in sent), bytes=sum(sent))
        return Arrival(list(received.split(incoming)), work)

    def scatter(self, tensor: Tensor | None, sizes: Sequence[int], stage: str) -> Tensor:
        """Hand worker k the k-th run of worker 0's float32 ``tensor`` (None elsewhere)."""
        if tensor is not None and self.world == 1:
            return tensor
        runs = tensor.split(list(sizes)) if tensor is not None and self.rank == 0 else None
        nothing = [torch.empty(0)] * self.world
        incoming = [sizes[self.rank]] + [0] * (self.world - 1)
        return self.exchange(runs or nothing, incoming, stage)[0]

    def exchange(self, runs: Sequence[Tensor], sizes: Sequence[int], stage: str) -> list[Tensor]:
        """Any run of values from any worker to any other, of one dtype.

        Args:
            runs: for each worker what to send it; may be empty.
            sizes: for each worker how many values it sends here.
            stage: where the ledger enters it.

        Returns:
            What each worker sent, in rank order.
        """
        if self.world == 1:
            return list(runs)
        outgoing = torch.cat(list(runs))
        received = outgoing.new_empty(sum(sizes))
        sent = [run.numel() for run in runs]
        dist.all_to_all_single(received, outgoing, list(sizes), sent, group=self.group)
        sent[self.rank] = 0
        self.ledger.record(
            stage, messages=sum(size > 0 for size in sent), bytes=outgoing.itemsize * sum(sent)
        )
        return list(received.split(list(sizes)))

    def all_gather(self, packet: Tensor, stage: str) -> list[Tensor]:
        """Every worker's packet, in rank order; all must have the same size."""
        return self.start_all_gather(packet, stage).wait()

    def start_all_gather(self, packet: Tensor, stage: str) -> Arrival:
        """Begin to send a packet to all; all workers' must have the same size."""
        if self.world == 1:
            return Arrival([packet])
        received = list(packet.new_empty(packet.numel() * self.world).chunk(self.world))
        work = dist.all_gather(received, packet, group=self.group, async_op=True)
        peers = self.world - 1
        self.ledger.record(stage, messages=peers, bytes=peers * packet.numel() * packet.itemsize)
        return Arrival(received, work)

    def broadcast(self, tensor: Tensor, stage: str) -> None:
        """Worker 0's tensor to all, in place. All copies are counted at worker 0."""
        if self.world == 1:
            return
        source = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        dist.broadcast(tensor, source, group=self.group)
        copies = self.world - 1 if self.rank == 0 else 0
        self.ledger.record(stage, messages=copies, bytes=copies * tensor.numel() * tensor.itemsize)

    def all_reduce(self, tensor: Tensor, stage: str) -> None:
        """The sum over workers, in place: on every worker the same to the bit.

        The ledger enters what a ring sends, 2 (K - 1) / K of the tensor.
        """
        if self.world == 1:
            return
        dist.all_reduce(tensor, group=self.group)
        peers = self.world - 1
        sent = 2 * peers * tensor.numel() * tensor.itemsize // self.world
        self.ledger.record(stage, messages=2 * peers, bytes=sent)

    def sum(self, tensor: Tensor, stage: str) -> Tensor:
        """The sum over workers of a small tensor, added in rank order."""
        return torch.stack(self.all_gather(tensor.reshape(-1), stage)).sum(0).view(tensor.shape)


def own_group(
    group: dist.ProcessGroup | None, timeout: timedelta | None
) -> dist.ProcessGroup | None:
    """A new group over the same ranks as ``group``, for one communication thread alone.

    None where torch.distributed is not initialised.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return None
    if dist.get_world_size(group) == 1:
        return group
    ranks = dist.get_process_group_ranks(group)
    own: dist.ProcessGroup = dist.new_group(ranks, timeout=timeout, use_local_synchronization=True)
    return own
