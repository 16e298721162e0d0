"""What a run has done so far, and the exact exchange it is compared with."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thinwire.exchange import Ledger, Traffic
from thinwire.exchange.reshard import share_traffic

# Collectives that carry the model or its gradient; the rest are a few scalars each.
VECTOR_STAGES = ("initial parameters", "cold start", "gradients", "updates")

_SHARED = ["steps", "samples", "skipped", "steady_steps", "dense_bytes", "steady_dense_bytes"]


class Stopwatch:
    """Seconds between start and stop, added up."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._started: float | None = None

    def start(self) -> None:
        """Go on counting."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Pause."""
        self._before, self._started = self.seconds, None

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._before + running


@dataclass
class Counts:
    """Totals of one worker.

    Attributes:
        params: values in the model, M.
        workers: K.
        steps: minibatches, skipped ones included.
        samples: samples in them, over all workers.
        skipped: steps skipped for a non-finite gradient.
        steady_steps: steps since the cold start.
        dense_bytes: what a dense exchange would have sent so far, over all workers.
        steady_dense_bytes: of these, since the cold start.
        steady_from: this worker's gradient and update traffic when the cold start ended.
        watch: time spent training, evaluation excluded.
    """

    params: int
    workers: int
    steps: int = 0
    samples: int = 0
    skipped: int = 0
    steady_steps: int = 0
    dense_bytes: int = 0
    steady_dense_bytes: int = 0
    steady_from: Traffic = field(default_factory=Traffic)
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def dense_bytes_per_worker(self) -> float:
        """What each worker would have sent: a ring all-reduce in float32 is 8 M (K-1)/K a step."""
        return self.dense_bytes / self.workers

    def add_step(self, samples: int, phase: str, ledger: Ledger) -> None:
        """Count one minibatch of ``samples`` samples."""
        self.steps += 1
        self.samples += samples
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

    def shared(self) -> dict[str, Any]:
        """What is the same on every worker, for a checkpoint; worker 0's watch counts for all."""
        return {**{name: getattr(self, name) for name in _SHARED}, "seconds": self.watch.seconds}

    def restore(
        self, shared: Mapping[str, Any], steady_from: Sequence[dict[str, int]], rank: int
    ) -> None:
        """Continue from a checkpoint of any number of workers.

        Args:
            shared: what ``shared`` gave.
            steady_from: of every old worker.
            rank: this worker.
        """
        for name in _SHARED:
            setattr(self, name, shared[name])
        self.watch = Stopwatch(shared["seconds"])
        if len(steady_from) == self.workers:
            self.steady_from = Traffic(**steady_from[rank])
        else:
            parts = share_traffic([{"": part} for part in steady_from], rank, self.workers)
            self.steady_from = Traffic(**parts[""])
