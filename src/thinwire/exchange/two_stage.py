"""The two-stage exchange of one bucket (S section 3.1), cost independent of the workers' number.

Worker k owns the k-th stripe. Stage 1: every worker quantises its sub-gradient and sends each owner
its stripe; the owner adds the K decoded stripes, its own from the quantised form too. Stage 2: the
owner quantises the update it made of the sum and sends it to all; every worker, the owner included,
decodes the same bytes, so replicas stay identical to the bit.

``quantise``, ``sum``, ``requantise`` and ``decode`` are pure arithmetic on bytes; ``reduce`` and
``distribute`` put them on a wire: an owner's packet is on its way while the next one's is
quantised. Packets are decoded when all are there: to wake up for each of them costs more than it
saves where workers share processors, and over a thin wire decoding is short beside the wait.

Invariant (conservation): the sum over workers of all sub-gradients equals what the owners have
aggregated plus the workers' residuals, and the sum of all updates equals what has been applied plus
the owners' residuals. Where only a part of the residuals is kept, what has been forgotten is one
more term in both sums.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thinwire.exchange.packet import HEADER_BYTES, NO_REMARKS, Header, Remarks, check_sequence
from thinwire.exchange.stripes import Stripe, split
from thinwire.exchange.timeline import span
from thinwire.exchange.wire import Wire
from thinwire.quantize import Code, Columns, ErrorFeedback


class NonFiniteUpdateError(FloatingPointError):
    """An owner's update holds a NaN or infinity although every sub-gradient was finite."""

    def __init__(self, worker: int, group: int) -> None:
        super().__init__(f"worker {worker} computed a non-finite update in group {group}")
        self.worker, self.group = worker, group


class TwoStage:
    """One worker's half of the exchange of one bucket.

    Attributes:
        worker: residual of stage 1 over the whole bucket; write the sub-gradient (a mean over
            samples) into ``worker.values`` before ``quantise``. After ``commit`` that buffer is
            scratch.
        owner: residual of stage 2 over this worker's stripe; ``sum`` leaves the aggregate in
            ``owner.values``, post-processing turns it into the update there.
        stripe: the stripe this worker owns.

    Args:
        columns: the bucket's groups.
        rank: this worker.
        world: number of workers, K.
        error_feedback: the part of the residuals that is kept, in both stages.
        device: where the buffers live.
        stripes: who owns what; by default the bucket is cut evenly.
    """

    def __init__(
        self,
        columns: Columns,
        rank: int,
        world: int,
        *,
        error_feedback: bool | float = True,
        stripes: Sequence[Stripe] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.columns = columns.to(device)
        self.rank = rank
        self.stripes = [stripe.to(device) for stripe in stripes or split(columns, world)]
        self.stripe = self.stripes[rank]
        self.worker = ErrorFeedback(columns.values, part=error_feedback, device=device)
        self.owner = ErrorFeedback(self.stripe.values, part=error_feedback, device=device)
        self.sequence = 0
        self._packet_bytes: dict[Code, list[int]] = {}

    def packet_bytes(self, code: Code) -> list[int]:
        """Size of the packet to or from each owner, in rank order."""
        if code not in self._packet_bytes:
            payloads = [code.payload_bytes(stripe.columns) for stripe in self.stripes]
            self._packet_bytes[code] = [HEADER_BYTES + size for size in payloads]
        return self._packet_bytes[code]

    def new_packets(self, code: Code) -> list[Tensor]:
        """Room for one packet for each owner, uint8."""
        sizes = self.packet_bytes(code)
        room = torch.empty(sum(sizes), dtype=torch.uint8, device=self.worker.values.device)
        return list(room.split(sizes))

    def quantise(
        self,
        code: Code,
        samples: float,
        packets: Sequence[Tensor],
        gradient: Tensor | None = None,
        ready: Callable[[int], None] = lambda owner: None,
        remarks: Remarks = NO_REMARKS,
    ) -> None:
        """Sub-gradient + residual -> one packet for each owner.

        Args:
            code: stage 1's code.
            samples: the number of samples the sub-gradient is the mean over. The *sum* over
                samples is what is sent and what residuals are in, as in S eq. (2), so that
                minibatches of any size add up.
            packets: receive the bytes (``new_packets``). Each header tells whether the whole
                sub-gradient is finite, so every owner, hence every worker, learns of a NaN
                anywhere; headers are therefore written last.
            gradient: ``[values]``, the sub-gradient where it is not in ``worker.values``, which
                then saves a copy; float32, bfloat16 or float16.
            ready: told of each owner whose packet is there but for the header: the next worker's
                first, this worker's own last.
            remarks: what this worker says beside them.
        """
        self.sequence += 1
        world, nonfinite = len(self.stripes), []
        for distance in range(1, world + 1):
            owner = (self.rank + distance) % world
            stripe, payload = self.stripes[owner], packets[owner][HEADER_BYTES:]
            group = self.worker.encode(
                code, samples, stripe.columns, payload, stripe.start, gradient
            )
            if group >= 0:
                nonfinite.append(stripe.first_group + group)
            ready(owner)
        withdrawn = remarks.withdrawn
        told = min(nonfinite, default=-1) if withdrawn is None else -2 - withdrawn
        header = Header(samples, told, self.sequence, remarks.idle, remarks.stated)
        for packet in packets:
            header.write(packet)

    def sum(self, code: Code, packets: Sequence[Tensor]) -> list[Header]:
        """K packets for this stripe -> their sum in ``owner.values``, added in rank order.

        Returns:
            What each worker says about the bucket, in rank order.

        Raises:
            RuntimeError: a worker is at another exchange than this one.
        """
        headers = [Header.read(packet) for packet in packets]
        check_sequence(headers, self.sequence)
        payloads = [packet[HEADER_BYTES:] for packet in packets]
        code.sum(payloads, self.stripe.columns, self.owner.values)
        return headers

    def new_update(self, code: Code) -> Tensor:
        """Room for this owner's packet for everyone, uint8."""
        size = self.packet_bytes(code)[self.rank]
        return torch.empty(size, dtype=torch.uint8, device=self.owner.values.device)

    def requantise(self, code: Code, packet: Tensor) -> None:
        """Update in ``owner.values`` + owner residual -> the packet for everyone (``new_update``).

        Call ``owner.commit()`` once the exchange has succeeded.
        """
        payload = packet[HEADER_BYTES:]
        group = self.owner.encode(code, 1.0, self.stripe.columns, payload)
        nonfinite = self.stripe.first_group + group if group >= 0 else -1
        Header(0.0, nonfinite, self.sequence).write(packet)

    def decode(
        self, code: Code, owner: int, packet: Tensor, out: Tensor, divisor: float = 1.0
    ) -> Header:
        """One owner's packet -> its stripe of the bucket's update, written to its place in ``out``.

        Args:
            code: stage 2's code.
            owner: whose packet it is.
            packet: uint8.
            out: float32 ``[values]``.
            divisor: what the decoded values are divided by.

        Returns:
            What the owner says; give all of them to ``check_updates``.
        """
        header, stripe = Header.read(packet), self.stripes[owner]
        if header.belongs_to(self.sequence):
            run = out[stripe.start : stripe.stop]
            code.decode(packet[HEADER_BYTES:], stripe.columns, run, False, divisor)
        return header

    def check_updates(self, headers: Sequence[Header]) -> None:
        """Look at what the owners, in rank order, said of their updates.

        Raises:
            RuntimeError: a worker is at another exchange than this one.
            NonFiniteUpdateError: on every worker, if any owner's update is not finite.
        """
        check_sequence(headers, self.sequence)
        for worker, header in enumerate(headers):
            if header.nonfinite_group >= 0:
                raise NonFiniteUpdateError(worker, header.nonfinite_group)

    def reduce(
        self,
        code: Code,
        samples: float,
        wire: Wire,
        stage: str,
        gradient: Tensor | None = None,
        remarks: Remarks = NO_REMARKS,
    ) -> list[Header]:
        """Stage 1 on the wire: sub-gradient -> sum in ``owner.values``; see ``quantise``.

        The residual is not touched until ``worker.commit()``.

        Returns:
            What each worker says about the bucket, in rank order.
        """
        packets = self.new_packets(code)
        incoming = [packets[self.rank].numel()] * len(packets)
        with span("all_to_all", wire.spans):
            messages = wire.start(packets, incoming, stage, HEADER_BYTES)
        with span("quantise", wire.spans):
            self.quantise(code, samples, packets, gradient, messages.send_early, remarks)
        with span("all_to_all", wire.spans):
            messages.send()
            received = messages.wait()
        with span("sum", wire.spans):
            return self.sum(code, received)

    def distribute(
        self, code: Code, out: Tensor, wire: Wire, stage: str, divisor: float = 1.0
    ) -> None:
        """Stage 2 on the wire: this owner's update -> the whole bucket's, in ``out`` (``decode``).

        Call ``owner.commit()`` once the exchange has succeeded.
        """
        packet = self.new_update(code)
        with span("all_gather", wire.spans):
            messages = wire.start_gather(packet, self.packet_bytes(code), stage)
        with span("requantise", wire.spans):
            self.requantise(code, packet)
        with span("all_gather", wire.spans):
            messages.send()
            received = messages.wait()
        with span("decode", wire.spans):
            headers = [
                self.decode(code, owner, packet, out, divisor)
                for owner, packet in enumerate(received)
            ]
        self.check_updates(headers)
