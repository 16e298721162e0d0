"""The dense exchange a run of minibatches is compared with, and when its cold start ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from thinwire.exchange import Ledger, Traffic, Wire
from thinwire.exchange.reshard import share_traffic
from thinwire.train.counts import MODEL_STAGES

_SHARED = ["steady_steps", "dense_bytes", "steady_dense_bytes"]


@dataclass
class DenseTwin:
    """What exchanging every minibatch's gradient in float32 would have sent.

    Attributes:
        params: values in the model, M; over all model ranks where the model is split.
        workers: K, those that share the samples.
        ways: model ranks, each with its own exchange of its shards.
        steady_steps: steps since the cold start.
        dense_bytes: what a dense exchange would have sent so far, over all workers.
        steady_dense_bytes: of these, since the cold start.
        steady_from: this worker's gradient and update traffic when the cold start ended.
    """

    params: int
    workers: int
    ways: int = 1
    steady_steps: int = 0
    dense_bytes: int = 0
    steady_dense_bytes: int = 0
    steady_from: Traffic = field(default_factory=Traffic)

    @property
    def bytes_per_worker(self) -> float:
        """What each worker would have sent: a ring all-reduce in float32 is 8 M (K-1)/K a step."""
        return self.dense_bytes / (self.workers * self.ways)

    def add_step(self, phase: str, ledger: Ledger) -> None:
        """Count one minibatch."""
        dense = 8 * self.params * (self.workers - 1)
        self.dense_bytes += dense
        if phase == "steady":
            self.steady_steps += 1
            self.steady_dense_bytes += dense
        else:
            self.steady_from = ledger.total("gradients", "updates")

    def steady_bytes(self, ledger: Ledger) -> int:
        """Gradient and update bytes this worker sent since the cold start."""
        return (ledger.total("gradients", "updates") - self.steady_from).bytes

    def compare(self, wire: Wire, sent: float) -> dict[str, Any]:
        """How many times fewer bytes were sent, the same on every worker.

        Args:
            wire: the workers; one small reduction.
            sent: bytes a worker sent, the mean over workers, whatever for.

        Returns:
            "compression" is the dense exchange's bytes over all bytes sent but those between model
            ranks; "compression_steady" compares gradients and updates since the cold start. None
            where nothing was sent.
        """
        between_ranks = wire.ledger.total(*MODEL_STAGES).bytes
        own = torch.tensor([self.steady_bytes(wire.ledger), between_ranks], dtype=torch.float64)
        steady_sent, between_ranks = wire.sum(own, "evaluation").tolist()
        sent -= between_ranks / wire.world
        return {
            "dense_bytes_per_worker": round(self.bytes_per_worker),
            "compression": self.bytes_per_worker / sent if sent else None,
            "compression_steady": self.steady_dense_bytes / steady_sent if steady_sent else None,
        }

    def shared(self) -> dict[str, Any]:
        """What is the same on every worker, for a checkpoint."""
        return {name: getattr(self, name) for name in _SHARED}

    def restore(
        self, shared: Mapping[str, Any], steady_from: Sequence[dict[str, int]], rank: int
    ) -> None:
        """Continue from a checkpoint of any number of workers.

        Args:
            shared: what ``shared`` gave.
            steady_from: of every old worker.
            rank: this worker, over both axes.
        """
        for name in _SHARED:
            setattr(self, name, shared.get(name, 0))  # a former version's has not all
        processes = self.workers * self.ways
        if len(steady_from) == processes:
            self.steady_from = Traffic(**steady_from[rank])
        else:
            parts = share_traffic([{"": part} for part in steady_from], rank, processes)
            self.steady_from = Traffic(**parts[""])
