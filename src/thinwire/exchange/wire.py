"""The wire: torch.distributed's collectives, with every byte entered in the ledger.

A job of one worker needs no process group; what it would send is handed straight back to it and
nothing is counted.
"""

import copy
import os
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.exchange.ledger import Ledger
from thinwire.exchange.messages import Messages, PassedOn
from thinwire.exchange.timeline import Span


class Wire:
    """One process group and its ledger.

    Only one thread may use a wire at a time: collectives are matched by the order of the calls.

    Args:
        group: the workers; None is the default group, or this process alone where
            torch.distributed is not initialised.
        ledger: where traffic is entered.
        back: the same workers over other connections (``Messages``); None: over the same.

    Attributes:
        world: number of workers.
        rank: this worker.
        shares_links: several workers of a machine share its link to other machines.
        spans: where exchanges over this wire enter when they did what; None: nowhere.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None,
        ledger: Ledger,
        back: dist.ProcessGroup | None = None,
    ) -> None:
        self.group = group
        self._back = back or group
        self.ledger = ledger
        self.spans: list[Span] | None = None
        alone = not (dist.is_available() and dist.is_initialized())
        self.world = 1 if alone else dist.get_world_size(group)
        self.rank = 0 if alone else dist.get_rank(group)
        self.shares_links = _nodes_have_several_workers()

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

    def start(
        self, outgoing: Sequence[Tensor], incoming: Sequence[int], stage: str, header: int = 0
    ) -> Messages:
        """Get ready for one packet to and one from every worker; ``Messages`` sends them.

        Args:
            outgoing: for each worker its packet, all of one dtype.
            incoming: for each worker how many elements it sends here.
            stage: where the ledger enters it.
            header: see ``Messages``.
        """
        own = outgoing[self.rank]
        room = own.new_empty(sum(incoming)).split(list(incoming))
        messages = Messages(self.group, self._back, self.rank, outgoing, room, header)
        self._record(messages, stage)
        return messages

    def start_gather(self, packet: Tensor, sizes: Sequence[int], stage: str) -> Messages:
        """Get ready to send one packet to all and to receive everyone's.

        Args:
            packet: this worker's; the bytes need not be there before it is sent.
            sizes: for each worker how many elements its packet has.
            stage: where the ledger enters it.
        """
        if not (self.shares_links and packet.device.type == "cpu"):
            return self.start([packet] * self.world, sizes, stage)
        room = packet.new_empty(sum(sizes)).split(list(sizes))
        messages = PassedOn(self.group, self._back, self.rank, [packet] * self.world, room)
        self._record(messages, stage)
        return messages

    def _record(self, messages: Messages, stage: str) -> None:
        if self.world > 1:
            sizes = messages.sizes
            self.ledger.record(stage, messages=len(sizes), bytes=sum(sizes))

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
        messages = self.start_gather(packet, [packet.numel()] * self.world, stage)
        messages.send()
        return messages.wait()

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


def own_wire(group: dist.ProcessGroup | None, timeout: timedelta | None, ledger: Ledger) -> Wire:
    """A wire over connections of its own between the ranks of ``group``, for one thread alone.

    Args:
        group: the workers; see ``Wire``.
        timeout: after which a worker that does not answer is an error; None is torch's own.
        ledger: where traffic is entered.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return Wire(group, ledger)
    ranks = dist.get_process_group_ranks(group)
    own, back = (
        dist.new_group(ranks, timeout=timeout, use_local_synchronization=True) for _ in range(2)
    )
    return Wire(own, ledger, back)


def _nodes_have_several_workers() -> bool:
    """As torchrun tells all workers alike; without it every worker is taken to be a machine."""
    nodes, workers = (int(os.environ.get(n, 0)) for n in ("GROUP_WORLD_SIZE", "WORLD_SIZE"))
    return 1 < nodes < workers
