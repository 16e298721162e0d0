"""What a run has done so far, and the exact exchange it is compared with."""

import time
from dataclasses import dataclass, field

from thinwire.exchange import Ledger, Traffic

# Collectives that carry the model or its gradient; the rest are a few scalars each.
VECTOR_STAGES = ("initial parameters", "cold start", "gradients", "updates")


class Stopwatch:
    """Seconds between start and stop, added up."""

    def __init__(self) -> None:
        self._before = 0.0
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
        steady_from: this worker's gradient and update traffic when the cold start ended.
        watch: time spent training, evaluation excluded.
    """

    params: int
    workers: int
    steps: int = 0
    samples: int = 0
    skipped: int = 0
    steady_steps: int = 0
    steady_from: Traffic = field(default_factory=Traffic)
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def dense_bytes_per_step(self) -> float:
        """Bytes each worker sends in a ring all-reduce of the float32 gradient, 8 M (K-1)/K."""
        return 8 * self.params * (self.workers - 1) / self.workers

    def add_step(self, samples: int, phase: str, ledger: Ledger) -> None:
        """Count one minibatch of ``samples`` samples."""
        self.steps += 1
        self.samples += samples
        if phase == "steady":
            self.steady_steps += 1
        else:
            self.steady_from = ledger.total("gradients", "updates")

    def steady_bytes(self, ledger: Ledger) -> int:
        """Gradient and update bytes this worker sent since the cold start."""
        return (ledger.total("gradients", "updates") - self.steady_from).bytes
