"""The two-stage exchange of one bucket (S section 3.1), cost independent of the workers' number.

Worker k owns the k-th stripe. Stage 1: every worker quantises its sub-gradient and sends each owner
its stripe; the owner adds the K decoded stripes, its own from the quantised form too. Stage 2: the
owner quantises the update it made of the sum and sends it to all; every worker, the owner included,
decodes the same bytes, so replicas stay identical to the bit.

The four methods are pure arithmetic on bytes; ``reduce`` and ``distribute`` put them on a wire.
Invariant (conservation): the sum over workers of all sub-gradients equals what the owners have
aggregated plus the workers' residuals, and the sum of all updates equals what has been applied plus
the owners' residuals.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.profiler import record_function

from thinwire.exchange.packet import HEADER_BYTES, Header, read_headers
from thinwire.exchange.stripes import Stripe, split
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
        error_feedback: keep residuals, in both stages.
        device: where the buffers live.
        stripes: who owns what; by default the bucket is cut evenly.
    """

    def __init__(
        self,
        columns: Columns,
        rank: int,
        world: int,
        *,
        error_feedback: bool = True,
        stripes: Sequence[Stripe] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.columns = columns
        self.rank = rank
        self.stripes = list(stripes or split(columns, world))
        self.stripe = self.stripes[rank]
        self.worker = ErrorFeedback(columns.values, enabled=error_feedback, device=device)
        self.owner = ErrorFeedback(self.stripe.values, enabled=error_feedback, device=device)
        self.sequence = 0

    def packet_bytes(self, code: Code) -> list[int]:
        """Size of the stage 1 packet for each owner, in rank order."""
        return [HEADER_BYTES + code.payload_bytes(stripe.columns) for stripe in self.stripes]

    def quantise(self, code: Code, samples: float) -> Tensor:
        """Sub-gradient + residual -> one packet for each owner.

        Args:
            code: stage 1's code.
            samples: the number of samples ``worker.values`` is the mean over. The *sum* over
                samples is what is sent and what residuals are in, as in S eq. (2), so that
                minibatches of any size add up.

        Returns:
            uint8, the packets end to end (``packet_bytes``). Each header tells whether the whole
            bucket is finite, so every owner, hence every worker, learns of a NaN anywhere.
        """
        self.sequence += 1
        sizes = self.packet_bytes(code)
        outgoing = torch.empty(sum(sizes), dtype=torch.uint8, device=self.worker.values.device)
        packets = outgoing.split(sizes)
        nonfinite = -1
        for packet, stripe in zip(packets, self.stripes, strict=True):
            payload = packet[HEADER_BYTES:]
            self.worker.encode(code, samples, stripe.columns, payload, stripe.start)
            group = code.nonfinite_group(payload, stripe.columns)
            if group >= 0 and nonfinite < 0:
                nonfinite = stripe.first_group + group
        header = Header(samples, nonfinite, self.sequence)
        for packet in packets:
            header.write(packet)
        return outgoing

    def sum(self, code: Code, packets: list[Tensor]) -> list[Header]:
        """K packets for this stripe -> their sum in ``owner.values``, added in rank order.

        Returns:
            The headers in rank order.
        """
        headers = read_headers(packets, self.sequence)
        for worker, packet in enumerate(packets):
            payload = packet[HEADER_BYTES:]
            code.decode(payload, self.stripe.columns, self.owner.values, accumulate=worker > 0)
        return headers

    def requantise(self, code: Code) -> Tensor:
        """Update in ``owner.values`` + owner residual -> the packet for everyone.

        Call ``owner.commit()`` once the exchange has succeeded.

        Returns:
            uint8 packet, padded to the largest stripe's so that all workers' are equally long.
        """
        sizes = self.packet_bytes(code)
        packet = self.owner.values.new_zeros(max(sizes), dtype=torch.uint8)
        payload = packet[HEADER_BYTES : sizes[self.rank]]
        with record_function("thinwire::requantise"):
            self.owner.encode(code, 1.0, self.stripe.columns, payload)
        group = code.nonfinite_group(payload, self.stripe.columns)
        nonfinite = self.stripe.first_group + group if group >= 0 else -1
        Header(0.0, nonfinite, self.sequence).write(packet)
        return packet

    def decode(self, code: Code, packets: list[Tensor], out: Tensor) -> None:
        """K packets -> the whole bucket's update, written to ``out`` ([values]).

        Raises:
            NonFiniteUpdateError: on every worker, if any owner's update is not finite.
        """
        for worker, header in enumerate(read_headers(packets, self.sequence)):
            if header.nonfinite_group >= 0:
                raise NonFiniteUpdateError(worker, header.nonfinite_group)
        sizes = self.packet_bytes(code)
        for packet, size, stripe in zip(packets, sizes, self.stripes, strict=True):
            run = out[stripe.start : stripe.stop]
            code.decode(packet[HEADER_BYTES:size], stripe.columns, run, accumulate=False)

    def reduce(self, code: Code, samples: float, wire: Wire, stage: str) -> list[Header]:
        """Stage 1 on the wire: sub-gradient in ``worker.values`` -> sum in ``owner.values``.

        The residual is not touched until ``worker.commit()``.
        """
        with record_function("thinwire::quantise"):
            outgoing = self.quantise(code, samples)
        with record_function("thinwire::all_to_all"):
            packets = wire.all_to_all(outgoing, self.packet_bytes(code), stage)
        with record_function("thinwire::sum"):
            return self.sum(code, packets)

    def distribute(self, code: Code, packet: Tensor, out: Tensor, wire: Wire, stage: str) -> None:
        """Stage 2 on the wire: this owner's packet -> the whole bucket's update in ``out``."""
        with record_function("thinwire::all_gather"):
            packets = wire.all_gather(packet, stage)
        with record_function("thinwire::decode"):
            self.decode(code, packets, out)
