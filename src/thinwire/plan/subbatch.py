"""How long a worker computes on n samples: measured points and what lies between them.

[Seide 2014, equation (4)] takes T_calc^frm as a constant; the paper's Table 1 and footnote 3 say
that it is not: a small sub-batch uses a processor badly. So the planner keeps the measured times
themselves.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SubBatchTimes:
    """Seconds for forward and backward over a sub-batch, by its size.

    Attributes:
        sizes: samples, ascending, at least one.
        seconds: for each size, > 0. Post-processing and update are not in them.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.seconds) or not self.sizes:
            raise ValueError(
                "expected as many sizes as times, at least one of each, "
                f"got {len(self.sizes)} and {len(self.seconds)}"
            )
        if self.sizes[0] < 1 or any(b <= a for a, b in itertools.pairwise(self.sizes)):
            raise ValueError(f"sizes: expected ascending numbers >= 1, got {list(self.sizes)}")
        if not all(0 < t < math.inf for t in self.seconds):
            raise ValueError(f"seconds: expected times > 0, got {list(self.seconds)}")

    @classmethod
    def increasing(cls, sizes: Sequence[int], seconds: Sequence[float]) -> "SubBatchTimes":
        """Make it from noisy measurements: larger sub-batches never take less than smaller ones."""
        return cls(tuple(sizes), tuple(itertools.accumulate(seconds, max)))

    def variable(self, n: float) -> float:
        """Return the seconds for n samples, n >= 0: n T_calc^frm(n).

        Straight lines between the measured points; beyond them the nearest line goes on, below
        the smallest never under a proportional share of it. Nothing takes no time.

        >>> times = SubBatchTimes((100, 200), (0.3, 0.5))
        >>> times.variable(150), times.variable(400), times.variable(50), times.variable(0)
        (0.4, 0.9, 0.2, 0.0)
        """
        if n <= 0:
            return 0.0
        if len(self.sizes) == 1:
            return self.seconds[0] * n / self.sizes[0]
        i = min(max(bisect.bisect_right(self.sizes, n), 1), len(self.sizes) - 1)
        (n0, n1), (t0, t1) = self.sizes[i - 1 : i + 1], self.seconds[i - 1 : i + 1]
        line = t0 + (t1 - t0) * (n - n0) / (n1 - n0)
        if n < self.sizes[0]:  # between proportional and no faster than the smallest measured
            line = min(max(line, t0 * n / n0), t0)
        return round(line, 15)

    def per_sample(self, n: float) -> float:
        """Return T_calc^frm at sub-batch size n, in seconds a sample."""
        return self.variable(n) / n
