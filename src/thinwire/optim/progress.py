"""How far a job is: its phase, the samples it has seen, the steps it had to skip."""

import logging
from dataclasses import dataclass
from typing import Any, Literal, get_args

UNHEALTHY_RATIO = 8.0  # |residual| / |input| of stage 2; above it runs lose accuracy
logger = logging.getLogger("thinwire")

ColdStart = Literal["serial", "dense"]
Culprit = tuple[int, str]  # a worker, and its parameter that is not finite


@dataclass(frozen=True)
class StepReport:
    """What one step did, the same on every worker except for ``residual_ratio``.

    Attributes:
        phase: "serial" or "dense" during the cold start, then "steady".
        samples: samples in the minibatch, over all workers.
        nonfinite: (worker, parameter) of the NaN or infinity for which all workers skipped the
            step together, else None.
        residual_ratio: |residual| / |input| of stage 1 and of stage 2 on this worker, the largest
            over buckets; None unless ``measure`` is set.
    """

    phase: str
    samples: float
    nonfinite: Culprit | None = None
    residual_ratio: tuple[float, float] | None = None


@dataclass
class Progress:
    """What steps change besides parameters and buckets; the same on every worker.

    Attributes:
        cold_start: samples to process exactly before the code is used.
        mode: how; see ``OneBitSGD``.
        max_skips: non-finite steps in a row that are forgiven.
        samples_seen: samples processed so far, over all workers.
        skips_in_a_row: steps skipped since the last good one.
        warned: whether the user has been told of an unhealthy residual ratio.

    Raises:
        ValueError: an argument out of range, naming it.
    """

    cold_start: int
    mode: ColdStart
    max_skips: int
    samples_seen: float = 0.0
    skips_in_a_row: int = 0
    warned: bool = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(ColdStart):
            raise ValueError(f"cold_start_mode: expected serial or dense, got {self.mode!r}")
        for name in ("cold_start", "max_skips"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected >= 0, got {getattr(self, name)}")

    @property
    def phase(self) -> str:
        """Where the job stands: "serial" or "dense" in the cold start, then "steady"."""
        return self.mode if self.samples_seen < self.cold_start else "steady"

    def note(self, report: StepReport) -> None:
        """Take a step into account.

        Raises:
            FloatingPointError: too many steps in a row had to be skipped.
        """
        self._warn(report.residual_ratio)
        if report.nonfinite is None:
            self.skips_in_a_row = 0
            self.samples_seen += report.samples
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
            "skips_in_a_row": self.skips_in_a_row,
        }

    def load(self, counts: dict[str, Any]) -> None:
        """Continue from ``counts``."""
        self.samples_seen = counts["samples_seen"]
        self.skips_in_a_row = counts["skips_in_a_row"]
