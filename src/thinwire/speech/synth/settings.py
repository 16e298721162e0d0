"""What a user settles about a synthetic corpus."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thinwire.data.kaldi.vectors import CLASSES
from thinwire.speech.synth.phones import PHONES
from thinwire.speech.synth.tying import STATES

MOST_HOURS = 10_000.0
MOST_JOBS = 1024
TEST_SHARE = 0.125  # of the training hours, where no test hours are given


@dataclass(frozen=True)
class Settings:
    """Make synthetic speech with exact labels, as folders of Kaldi files."""

    hours: float | None = None
    """Hours of training speech."""
    test_hours: float | None = None
    """Hours of test speech, by voices that training lacks; an eighth of --hours by default."""
    text: Path | None = None
    """What is spoken: plain text in UTF-8. By default the Brown corpus, which is fetched."""
    classes: int = 1500
    """Most classes of frames."""
    seed: int = 0
    """The same seed makes the same files."""
    noise: Literal["easy", "hard"] = "hard"
    """How much noise and how often a room: easy is 15 to 35 dB and 30 %, hard 3 to 25 and 70 %."""
    jobs: int | None = None
    """Processes at a time, which do not change the result; one for each processor by default."""

    def __post_init__(self) -> None:
        _check("--hours", self.hours, MOST_HOURS)
        _check("--test-hours", self.test_hours, MOST_HOURS)
        _check("--jobs", self.jobs, MOST_JOBS)
        least = STATES * len(PHONES)
        if not least <= self.classes <= CLASSES:
            raise ValueError(
                f"--classes: expected {least} (every phone has {STATES}) to {CLASSES}, "
                f"got {self.classes}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed: expected a number from 0 to 2^63 - 1, got {self.seed}")

    @property
    def train_hours(self) -> float:
        """Hours of training speech.

        Raises:
            ValueError: the user has not said how many.
        """
        if self.hours is None:
            raise ValueError("--hours is missing: say how many hours of speech to make")
        return self.hours

    @property
    def held_out_hours(self) -> float:
        """Hours of test speech."""
        return TEST_SHARE * self.train_hours if self.test_hours is None else self.test_hours


def _check(flag: str, value: float | None, most: float) -> None:
    if value is not None and not (math.isfinite(value) and 0 < value <= most):
        raise ValueError(f"{flag}: expected a number above 0 and at most {most:g}, got {value}")
