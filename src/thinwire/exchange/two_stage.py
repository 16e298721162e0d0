"""The two-stage exchange of one bucket (S section 3.1), cost independent of the workers' number.

Worker k owns the k-th stripe. Stage 1: every worker quantises its sub-gradient and sends each owner
its stripe; the owner adds the K decoded stripes, its own from the quantised form too. Stage 2: the
owner quantises the update it made of the sum and sends it to all; every worker, the owner included,
decodes the same bytes, so replicas stay identical to the bit.

The four methods are pure arithmetic on bytes; ``reduce`` and ``distribute`` put them on a wire, one
slice of the bucket after another (``stripes``): while one travels, the next is quantised.
Invariant (conservation): the sum over workers of all sub-gradients equals what the owners have
aggregated plus the workers' residuals, and the sum of all updates equals what has been applied plus
the owners' residuals.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.exchange.packet import HEADER_BYTES, Header, merge_headers, read_headers
from thinwire.exchange.stripes import Stripe, cut_slices, split
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
        slices: for each slice of the bucket the part of every stripe that travels in it.

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
        self.slices = cut_slices(self.stripes)
        self.worker = ErrorFeedback(columns.values, enabled=error_feedback, device=device)
        self.owner = ErrorFeedback(self.stripe.values, enabled=error_feedback, device=device)
        self.sequence = 0

    def packet_bytes(self, code: Code, index: int = 0) -> list[int]:
        """Size of a slice's stage 1 packet for each owner, in rank order."""
        return [HEADER_BYTES + code.payload_bytes(part.columns) for part in self.slices[index]]

    def quantise(
        self, code: Code, samples: float, index: int = 0, gradient: Tensor | None = None
    ) -> Tensor:
        """Sub-gradient + residual -> one packet for each owner, of one slice.

        Args:
            code: stage 1's code.
            samples: the number of samples the sub-gradient is the mean over. The *sum* over
                samples is what is sent and what residuals are in, as in S eq. (2), so that
                minibatches of any size add up.
            index: the slice; 0 begins an exchange, the others follow in order.
            gradient: ``[values]``, the sub-gradient where it is not in ``worker.values``, which
                then saves a copy; float32, bfloat16 or float16.

        Returns:
            uint8, the packets end to end (``packet_bytes``). Each header tells whether the whole
            slice is finite, so every owner, hence every worker, learns of a NaN anywhere.
        """
        self.sequence += index == 0
        sizes = self.packet_bytes(code, index)
        outgoing = torch.empty(sum(sizes), dtype=torch.uint8, device=self.worker.values.device)
        packets = outgoing.split(sizes)
        nonfinite = -1
        for packet, part in zip(packets, self.slices[index], strict=True):
            payload = packet[HEADER_BYTES:]
            self.worker.encode(code, samples, part.columns, payload, part.start, gradient)
            group = code.nonfinite_group(payload, part.columns)
            if group >= 0 and nonfinite < 0:
                nonfinite = part.first_group + group
        header = Header(samples, nonfinite, self.sequence)
        for packet in packets:
            header.write(packet)
        return outgoing

    def sum(self, code: Code, packets: list[Tensor], index: int = 0) -> list[Header]:
        """K packets for this stripe's part -> their sum in ``owner.values``, added in rank order.

        Returns:
            The headers in rank order.
        """
        headers = read_headers(packets, self.sequence)
        part = self.slices[index][self.rank]
        out = self.owner.values[self._own(part)]
        for worker, packet in enumerate(packets):
            code.decode(packet[HEADER_BYTES:], part.columns, out, accumulate=worker > 0)
        return headers

    def requantise(self, code: Code, index: int = 0) -> Tensor:
        """Update in ``owner.values`` + owner residual -> the packet for everyone, of one slice.

        Call ``owner.commit()`` once the exchange has succeeded.

        Returns:
            uint8 packet, padded to the largest stripe's so that all workers' are equally long.
        """
        sizes = self.packet_bytes(code, index)
        packet = self.owner.values.new_zeros(max(sizes), dtype=torch.uint8)
        payload = packet[HEADER_BYTES : sizes[self.rank]]
        part = self.slices[index][self.rank]
        self.owner.encode(code, 1.0, part.columns, payload, self._own(part).start)
        group = code.nonfinite_group(payload, part.columns)
        nonfinite = part.first_group + group if group >= 0 else -1
        Header(0.0, nonfinite, self.sequence).write(packet)
        return packet

    def decode(
        self, code: Code, packets: list[Tensor], out: Tensor, index: int = 0, divisor: float = 1.0
    ) -> None:
        """K packets -> one slice of the bucket's update, written to its place in ``out``.

        Args:
            code: stage 2's code.
            packets: in rank order.
            out: float32 ``[values]``.
            index: the slice.
            divisor: what the decoded values are divided by.

        Raises:
            NonFiniteUpdateError: on every worker, if any owner's update is not finite.
        """
        for worker, header in enumerate(read_headers(packets, self.sequence)):
            if header.nonfinite_group >= 0:
                raise NonFiniteUpdateError(worker, header.nonfinite_group)
        sizes = self.packet_bytes(code, index)
        for packet, size, part in zip(packets, sizes, self.slices[index], strict=True):
            run = out[part.start : part.stop]
            code.decode(packet[HEADER_BYTES:size], part.columns, run, False, divisor)

    def reduce(
        self, code: Code, samples: float, wire: Wire, stage: str, gradient: Tensor | None = None
    ) -> list[Header]:
        """Stage 1 on the wire: sub-gradient -> sum in ``owner.values``; see ``quantise``.

        The residual is not touched until ``worker.commit()``.

        Returns:
            What each worker says about the bucket, in rank order.
        """
        arrivals, headers = [], []
        for index in range(len(self.slices)):
            with span("quantise", wire.spans):
                outgoing = self.quantise(code, samples, index, gradient)
            with span("all_to_all", wire.spans):
                sizes = self.packet_bytes(code, index)
                arrivals.append(wire.start_all_to_all(outgoing, sizes, stage))
        for index, arrival in enumerate(arrivals):
            with span("all_to_all", wire.spans):
                packets = arrival.wait()
            with span("sum", wire.spans):
                headers.append(self.sum(code, packets, index))
        return merge_headers(headers)

    def distribute(
        self, code: Code, out: Tensor, wire: Wire, stage: str, divisor: float = 1.0
    ) -> None:
        """Stage 2 on the wire: this owner's update -> the whole bucket's, in ``out`` (``decode``).

        Call ``owner.commit()`` once the exchange has succeeded.
        """
        arrivals = []
        for index in range(len(self.slices)):
            with span("requantise", wire.spans):
                packet = self.requantise(code, index)
            with span("all_gather", wire.spans):
                arrivals.append(wire.start_all_gather(packet, stage))
        for index, arrival in enumerate(arrivals):
            with span("all_gather", wire.spans):
                packets = arrival.wait()
            with span("decode", wire.spans):
                self.decode(code, packets, out, index, divisor)

    def _own(self, part: Stripe) -> slice:
        """Where a part of this worker's stripe lies in the owner's buffers."""
        return slice(part.start - self.stripe.start, part.stop - self.stripe.start)
