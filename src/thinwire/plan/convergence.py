"""How many samples a method needs to reach a goal, as a function of the minibatch size.

Measured runs give the samples S and the steps I = S / N at which the goal was first reached. In
between and around them the law

    S(N) = S_min + I_min N,      I(N) = I_min + S_min / N

is fitted: small minibatches need S_min samples however small they are, large ones I_min steps
however large. N = S_min / I_min is where either is twice its least, the critical size of
[Seide 2014, section 4].
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from thinwire.plan.goal import Goal


@dataclass(frozen=True)
class CoursePoint:
    """One point of a run's course, where it was evaluated; counts are over all workers.

    Attributes:
        steps: updates of the model.
        samples: samples processed.
        value: the metric, such as the fraction of samples classified wrongly.
    """

    steps: float
    samples: float
    value: float


@dataclass(frozen=True)
class Reached:
    """What a run needed to reach the target.

    Attributes:
        minibatch: N.
        steps: updates.
        samples: samples processed.
    """

    minibatch: int
    steps: float
    samples: float


def reached(course: Sequence[CoursePoint], goal: Goal, minibatch: int) -> Reached | None:
    """Return when a goal was first reached, interpolated between the evaluations around it.

    Returns:
        The counts, or None if no evaluation meets the goal. A run that is there at its first
        evaluation counts as reaching it then.

    >>> course = [CoursePoint(10, 100, 0.3), CoursePoint(20, 200, 0.1)]
    >>> reached(course, Goal("test_error", 0.2, "20 % test error"), 10)
    Reached(minibatch=10, steps=15.0, samples=150.0)
    """
    before: CoursePoint | None = None
    for now in course:
        if goal.is_met(now.value):
            if before is None:
                return Reached(minibatch, now.steps, now.samples)
            part = (before.value - goal.value) / (before.value - now.value)
            return Reached(
                minibatch,
                before.steps + part * (now.steps - before.steps),
                before.samples + part * (now.samples - before.samples),
            )
        before = now
    return None


@dataclass(frozen=True)
class Law:
    """S(N) = least_samples + least_steps N, and where it was measured.

    Attributes:
        least_samples: S_min.
        least_steps: I_min.
        smallest: smallest minibatch measured.
        largest: largest one.
        error: largest relative deviation of a measured mean from the law.
    """

    least_samples: float
    least_steps: float
    smallest: int
    largest: int
    error: float

    def samples(self, minibatch: float) -> float:
        """Return S(N)."""
        return self.least_samples + self.least_steps * minibatch

    def steps(self, minibatch: float) -> float:
        """Return I(N)."""
        return self.samples(minibatch) / minibatch

    def known(self, minibatch: float) -> bool:
        """Return whether N lies within what was measured."""
        return self.smallest <= minibatch <= self.largest


def fit(runs: Iterable[Reached]) -> Law:
    """Fit the law to measured runs: least squares of relative deviations, both terms >= 0.

    Runs of the same minibatch (seeds) are averaged. One size alone tells nothing of others: its law
    holds there only (``known``).

    Raises:
        ValueError: no runs.

    >>> law = fit([Reached(100, 15, 1500), Reached(200, 10, 2000)])
    >>> round(law.least_samples), round(law.least_steps), law.known(400)
    (1000, 5, False)
    """
    by_size: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        by_size[run.minibatch].append(run.samples)
    if not by_size:
        raise ValueError("runs: expected at least one that reached the target, got none")
    sizes = np.array(sorted(by_size), dtype=float)
    samples = np.array([np.mean(by_size[int(n)]) for n in sizes])
    if len(sizes) == 1:
        return Law(float(samples[0]), 0.0, int(sizes[0]), int(sizes[0]), 0.0)
    least_samples, least_steps = _non_negative(sizes, samples)
    error = np.abs((least_samples + least_steps * sizes) / samples - 1).max()
    return Law(least_samples, least_steps, int(sizes[0]), int(sizes[-1]), float(error))


def _non_negative(sizes: "np.ndarray", samples: "np.ndarray") -> tuple[float, float]:
    """The two terms: the free solution if both are >= 0, else the better of the edges."""
    rows = np.stack([1 / samples, sizes / samples], axis=1)
    free = np.linalg.lstsq(rows, np.ones(len(sizes)), rcond=None)[0]
    if (free >= 0).all():
        return float(free[0]), float(free[1])
    edges = [np.zeros(2), np.zeros(2)]
    for i, edge in enumerate(edges):
        edge[i] = rows[:, i].sum() / (rows[:, i] ** 2).sum()
    best = min(edges, key=lambda edge: float(((rows @ edge - 1) ** 2).sum()))
    return float(best[0]), float(best[1])
