"""W workers of the two-stage exchange in one process: lists of tensors instead of a network."""

import torch
from torch import Tensor

from thinwire.exchange import Header, TwoStage
from thinwire.quantize import Code, Columns


class Simulation:
    """The exchanges of ``world`` workers of one bucket."""

    def __init__(self, columns: Columns, world: int, *, error_feedback: bool = True) -> None:
        self.columns = columns
        self.workers = [
            TwoStage(columns, rank, world, error_feedback=error_feedback) for rank in range(world)
        ]

    def reduce(
        self, code: Code, gradients: list[Tensor], samples: list[float] | None = None
    ) -> list[list[Header]]:
        """Stage 1: sub-gradients -> the sum in every owner's stripe."""
        samples = samples or [1.0] * len(gradients)
        for worker, gradient in zip(self.workers, gradients, strict=True):
            worker.worker.values.copy_(gradient)
        outgoing = [worker.new_packets(code) for worker in self.workers]
        for worker, count, packets in zip(self.workers, samples, outgoing, strict=True):
            worker.quantise(code, count, packets)
        return [
            owner.sum(code, [packets[rank] for packets in outgoing])
            for rank, owner in enumerate(self.workers)
        ]

    def commit(self) -> None:
        for worker in self.workers:
            worker.worker.commit()

    def aggregate(self) -> Tensor:
        """[values]: the owners' stripes end to end."""
        return torch.cat([worker.owner.values for worker in self.workers])

    def distribute(self, code: Code) -> list[Tensor]:
        """Stage 2: what every worker decodes of the updates in the owners' stripes."""
        decoded = [torch.empty(self.columns.values) for _ in self.workers]
        packets = [worker.new_update(code) for worker in self.workers]
        for worker, packet in zip(self.workers, packets, strict=True):
            worker.requantise(code, packet)
        for worker, out in zip(self.workers, decoded, strict=True):
            worker.check_updates(
                [worker.decode(code, owner, packet, out) for owner, packet in enumerate(packets)]
            )
        for worker in self.workers:
            worker.owner.commit()
        return decoded

    def worker_residuals(self) -> Tensor:
        """float64 [values]: what all workers still carry."""
        return torch.stack([w.worker.residual.double() for w in self.workers]).sum(0)

    def owner_residuals(self) -> Tensor:
        """float64 [values]: what the owners still carry."""
        return torch.cat([w.owner.residual.double() for w in self.workers])
