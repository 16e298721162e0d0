"""What a run has done so far: steps, samples, communications, seconds."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thinwire.exchange import Ledger

# Vector communications: sums over the workers of something as long as the model, and copies of it.
# "updates" is not here: it is the second half of the sum that "gradients" begins, as the gathering
# half of an all-reduce is.
VECTOR_STAGES = (
    *("initial parameters", "cold start", "gradients", "trial gradients"),
    *("gradient", "curvature products", "curvature batch", "direction"),
)
# Scalar communications: a few numbers that decide what an algorithm does next. The rest
# (evaluation, agreement, checkpoint) serves the trainer; its bytes count, its number does not.
SCALAR_STAGES = (
    *("inner products", "candidate losses", "trial losses"),
    *("sample counts", "timings"),
)

_SEARCH = ("trials", "trial_samples", "trial_seconds")
# What travels between workers that share a model, which is not the exchange's business.
MODEL_STAGES = ("activations", "whole model", "model agreement")


def communications(ledger: Ledger) -> dict[str, int]:
    """The number of vector and of scalar communications.

    >>> ledger = Ledger()
    >>> for stage in ("gradients", "updates", "trial losses", "evaluation"):
    ...     ledger.record(stage, messages=1, bytes=8)
    >>> communications(ledger)
    {'communications': 1, 'scalar_communications': 1}
    """
    return {
        "communications": ledger.total(*VECTOR_STAGES).collectives,
        "scalar_communications": ledger.total(*SCALAR_STAGES).collectives,
    }


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
    """Totals of a run, the same on every worker.

    Attributes:
        params: values in the model, M.
        workers: K.
        steps: minibatches (skipped ones included) or outer iterations.
        samples: samples gone through, over all workers.
        skipped: steps skipped for a non-finite gradient.
        watch: time spent training, trials included, evaluation excluded.
        trials: minibatch sizes tried.
        trial_samples: samples trained on in trials; they are not among ``samples``.
        trial_seconds: of the time above, spent in trials.
    """

    params: int
    workers: int
    steps: int = 0
    samples: int = 0
    skipped: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)
    trials: int = 0
    trial_samples: int = 0
    trial_seconds: float = 0.0

    @property
    def progress(self) -> tuple[int, int]:
        """Steps and trials: whatever a checkpoint stores changes with one of them."""
        return self.steps, self.trials

    def shared(self) -> dict[str, Any]:
        """For a checkpoint; worker 0's watch counts for all."""
        return {
            "steps": self.steps,
            "samples": self.samples,
            "skipped": self.skipped,
            "seconds": self.watch.seconds,
            **self.search(),
        }

    def search(self) -> dict[str, Any]:
        """What trials of minibatch sizes have cost."""
        return {name: getattr(self, name) for name in _SEARCH}

    def restore(self, shared: Mapping[str, Any]) -> None:
        """Continue from what ``shared`` gave."""
        self.steps, self.samples = shared["steps"], shared["samples"]
        self.skipped = shared["skipped"]
        self.watch = Stopwatch(shared["seconds"])
        for name in _SEARCH:
            setattr(self, name, shared.get(name, 0))
