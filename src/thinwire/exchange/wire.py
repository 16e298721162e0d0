"""The wire: a transport whose every message and byte is entered in a ledger."""

import copy
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from thinwire.exchange.ledger import Ledger
from thinwire.exchange.timeline import Span
from thinwire.exchange.transport import Alone, Messages, Transport, connect, share
from thinwire.exchange.transport.protocol import size_of


class Wire:
    """One worker's end of a transport, and its accounts.

    Only one thread may use a wire at a time, since collectives are matched by the order of the
    calls.

    Args:
        transport: what moves the tensors.
        ledger: where traffic is entered.

    Attributes:
        spans: where exchanges over this wire enter when they did what; None: nowhere.
    """

    def __init__(self, transport: Transport, ledger: Ledger) -> None:
        self._transport = transport
        self.ledger = ledger
        self.spans: list[Span] | None = None

    @property
    def rank(self) -> int:
        """This worker."""
        return self._transport.rank

    @property
    def world(self) -> int:
        """The number of workers."""
        return self._transport.world

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The process group beneath, for torch's own collectives; None where there is none."""
        return self._transport.group

    def alone(self) -> "Wire":
        """Return a wire of this worker by itself, on the same ledger: all it has is all there is.

        Nothing is sent over it, and a sum is this worker's summand.
        """
        wire = copy.copy(self)
        wire._transport = Alone(self.group)
        return wire

    def apart(self) -> "Wire":
        """Return the same wire with accounts of its own, for what goes on beside other work."""
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
            header: see ``Transport.start``.
        """
        return self._enter(self._transport.start(outgoing, incoming, header), stage)

    def start_gather(self, packet: Tensor, sizes: Sequence[int], stage: str) -> Messages:
        """Get ready to send one packet to all and to receive everyone's.

        Args:
            packet: this worker's; the bytes need not be there before it is sent.
            sizes: for each worker how many elements its packet has.
            stage: where the ledger enters it.
        """
        return self._enter(self._transport.start_gather(packet, sizes), stage)

    def scatter(self, tensor: Tensor, sizes: Sequence[int], stage: str) -> Tensor:
        """Hand worker k the k-th run of worker 0's tensor.

        Args:
            tensor: worker 0's ``[sum(sizes)]``; of the others only its dtype and device count.
            sizes: for each worker how many values it gets.
            stage: where the ledger enters it.
        """
        if self.world == 1:
            return tensor
        nothing = [tensor.new_empty(0)] * self.world
        runs = tensor.split(list(sizes)) if self.rank == 0 else nothing
        incoming = [sizes[self.rank]] + [0] * (self.world - 1)
        return self.exchange(runs, incoming, stage)[0]

    def exchange(self, runs: Sequence[Tensor], sizes: Sequence[int], stage: str) -> list[Tensor]:
        """Send any run of values from any worker to any other, of one dtype.

        Args:
            runs: for each worker what to send it; may be empty.
            sizes: for each worker how many values it sends here.
            stage: where the ledger enters it.

        Returns:
            What each worker sent, in rank order.
        """
        received = self._transport.exchange(runs, sizes)
        sent = [size_of(run) for peer, run in enumerate(runs) if peer != self.rank]
        self._record(stage, messages=sum(size > 0 for size in sent), sent=sum(sent))
        return received

    def all_gather(self, packet: Tensor, stage: str) -> list[Tensor]:
        """Return every worker's packet, in rank order; all must have the same size."""
        messages = self.start_gather(packet, [packet.numel()] * self.world, stage)
        messages.send()
        return messages.wait()

    def broadcast(self, tensor: Tensor, stage: str) -> None:
        """Overwrite ``tensor`` by worker 0's. All copies are counted at worker 0."""
        self._transport.broadcast(tensor)
        copies = self.world - 1 if self.rank == 0 else 0
        self._record(stage, messages=copies, sent=copies * size_of(tensor))

    def all_reduce(self, tensor: Tensor, stage: str) -> None:
        """Overwrite ``tensor`` by its sum over workers: on every worker the same to the bit.

        The ledger enters what a ring sends, 2 (K - 1) / K of the tensor.
        """
        self._transport.all_reduce(tensor)
        peers = self.world - 1
        self._record(stage, messages=2 * peers, sent=2 * peers * size_of(tensor) // self.world)

    def sum(self, tensor: Tensor, stage: str) -> Tensor:
        """Return the sum over workers of a small tensor, added in rank order."""
        return torch.stack(self.all_gather(tensor.reshape(-1), stage)).sum(0).view(tensor.shape)

    def close(self) -> None:
        """Let go of the connections; the wire can move nothing any more."""
        self._transport.close()

    def _enter(self, messages: Messages, stage: str) -> Messages:
        sizes = messages.sizes
        self._record(stage, messages=len(sizes), sent=sum(sizes))
        return messages

    def _record(self, stage: str, *, messages: int, sent: int) -> None:
        if self.world > 1:
            self.ledger.record(stage, messages=messages, bytes=sent)


def shared_wire(group: dist.ProcessGroup | None, ledger: Ledger) -> Wire:
    """Return a wire over a process group's own connections.

    Args:
        group: the workers; None is the default group, or this process alone where
            torch.distributed is not initialised.
        ledger: where traffic is entered.
    """
    return Wire(share(group), ledger)


def own_wire(
    group: dist.ProcessGroup | None,
    timeout: timedelta | None,
    ledger: Ledger,
    transport: str = "auto",
) -> Wire:
    """Return a wire over connections of its own between the workers, for one thread alone.

    Args:
        group: the workers; see ``shared_wire``.
        timeout: after which a worker that does not answer is an error; None is torch's own.
        ledger: where traffic is entered.
        transport: how packets move, by name; see ``transport.connect``.
    """
    return Wire(connect(group, timeout, transport), ledger)
