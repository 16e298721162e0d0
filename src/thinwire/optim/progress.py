"""How far a job is: the samples it has seen, the steps it took, and those it had to skip."""

import logging
from dataclasses import dataclass, field
from typing import Any

from thinwire.exchange import SERIAL, Culprit, ExchangeConfig

UNHEALTHY_RATIO = 8.0  # |residual| / |input| of stage 2; above it runs lose accuracy
DENSE, STEADY = "dense", "steady"  # phases, beside SERIAL
logger = logging.getLogger("thinwire")


@dataclass(frozen=True)
class StepReport:
    """What one step did, the same on every worker except for ``residual_ratio``.

    Attributes:
        phase: "serial" or "dense" during a start, then "steady".
        samples: samples in the minibatch, over all workers.
        nonfinite: (worker, parameter) of the NaN or infinity for which all workers skipped the
            step together, else None.
        residual_ratio: |residual| / |input| of stage 1 and of stage 2 on this worker, the largest
            over buckets; None unless ``measure`` is set. Where ``error_feedback`` is a part p,
            1 / p - 1 times as much was forgotten in this step.
        gradient_norm: of the minibatch's mean gradient before it was clipped; None unless
            ``clip_norm`` is given, and in a serial start.
    """

    phase: str
    samples: float
    nonfinite: Culprit | None = None
    residual_ratio: tuple[float, float] | None = None
    gradient_norm: float | None = None


@dataclass
class Progress:
    """What steps change besides parameters and buckets; the same on every worker.

    Attributes:
        config: says how long the start is, and how it is exchanged.
        max_skips: non-finite steps in a row that are forgiven.
        samples_seen: samples processed so far, over all workers.
        steps_taken: steps that were not skipped.
        skips_in_a_row: steps skipped since the last good one.
        warned: whether the user has been told of an unhealthy residual ratio.
        phase: where the job stands: "serial" or "dense" in a start, then "steady".

    Raises:
        ValueError: ``max_skips`` is out of range.
    """

    config: ExchangeConfig
    max_skips: int
    samples_seen: float = 0.0
    steps_taken: int = 0
    skips_in_a_row: int = 0
    warned: bool = False
    phase: str = field(init=False)

    def __post_init__(self) -> None:
        if self.max_skips < 0:
            raise ValueError(f"max_skips: expected >= 0, got {self.max_skips}")
        self._find_phase()

    def note(self, report: StepReport) -> None:
        """Take a step into account.

        Raises:
            FloatingPointError: too many steps in a row had to be skipped.
        """
        self._warn(report.residual_ratio)
        if report.nonfinite is None:
            self.skips_in_a_row = 0
            self.samples_seen += report.samples
            self.steps_taken += 1
            if self.phase != STEADY:
                self._find_phase()
            return
        worker, parameter = report.nonfinite
        self.skips_in_a_row += 1
        if self.skips_in_a_row > self.max_skips:
            raise FloatingPointError(
                f"worker {worker}: non-finite gradient in {parameter!r}; "
                f"{self.skips_in_a_row} steps in a row had to be skipped (max_skips = "
                f"{self.max_skips}). Lower the learning rate, or look at that worker's data"
            )

    def _warn(self, ratio: tuple[float, float] | None) -> None:
        if ratio is None or ratio[1] <= UNHEALTHY_RATIO or self.warned:
            return
        self.warned = True
        logger.warning(
            "the owners' residual is %.1f times their input (healthy: below 3): shorten the "
            "momentum's time constant or lower the learning rate",
            ratio[1],
        )

    def counts(self) -> dict[str, Any]:
        """For the state dict."""
        return {
            "phase": self.phase,
            "samples_seen": self.samples_seen,
            "steps_taken": self.steps_taken,
            "skips_in_a_row": self.skips_in_a_row,
        }

    def load(self, counts: dict[str, Any]) -> None:
        """Continue from ``counts``."""
        self.samples_seen = counts["samples_seen"]
        self.steps_taken = counts.get("steps_taken", 0)  # version 0.1 did not count them
        self.skips_in_a_row = counts["skips_in_a_row"]
        self._find_phase()

    def _find_phase(self) -> None:
        if not self.config.in_start(self.steps_taken, self.samples_seen):
            self.phase = STEADY
        else:
            self.phase = SERIAL if self.config.start == SERIAL else DENSE
