"""The goal of training: which metric is to reach which value.

What metrics there are, which way is better and which of them are rates (fractions in events, per
cent for people) is told by the runs themselves (`report.metrics`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thinwire.report import ERROR, LOSS, Run, metrics_of

SIDES = ("test", "train")


@dataclass(frozen=True)
class Goal:
    """A value of a metric at which training has done its work.

    Attributes:
        field: the field of epoch events that holds the metric.
        value: what is to be reached, in the unit of the events.
        words: the goal as people say it, such as "2.5 % test error".
        higher_is_better: whether the metric grows as training goes on.
    """

    field: str
    value: float
    words: str
    higher_is_better: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a value of the metric is as good as the goal or better.

        >>> make_goal("test", 2.5).is_met(0.02), make_goal("train_loss", 1.0).is_met(1.5)
        (True, False)
        """
        return value >= self.value if self.higher_is_better else value <= self.value


def make_goal(metric: str = "test", target: float = 2.5, runs: Sequence[Run] = ()) -> Goal:
    """Make a goal from what a user says.

    Args:
        metric: "test" or "train" for the first metric of the runs' task on these samples, or a
            metric's name behind one of these words, such as "test_loss".
        target: the value to reach; of a rate in per cent.
        runs: they say which metrics there are; without runs there are the loss and the error.

    Raises:
        ValueError: there is no such metric, a rate is not between 0 and 100 per cent, or a value is
            not finite.

    >>> make_goal("train", 2)
    Goal(field='train_error', value=0.02, words='2 % train error', higher_is_better=False)
    >>> make_goal("test_loss", 0.3).words
    '0.3 test loss'
    """
    side, _, key = metric.partition("_")
    metrics = metrics_of(runs) if runs else (LOSS, ERROR)
    known = {one.key: one for one in metrics}
    found = known.get(key) if key else metrics[min(1, len(metrics) - 1)]
    if side not in SIDES or found is None:
        names = ", ".join(f"{word}_{name}" for word in SIDES for name in known)
        raise ValueError(f"metric: expected test, train or one of {names}, got {metric!r}")
    if found.percent and not 0 < target < 100:
        raise ValueError(f"target: expected per cent between 0 and 100, got {target}")
    if not math.isfinite(target):
        raise ValueError(f"target: expected a finite {found.title}, got {target}")
    return Goal(
        field=found.test if side == "test" else found.train,
        value=target / 100 if found.percent else target,
        words=f"{target:g}{' %' if found.percent else ''} {side} {found.title}",
        higher_is_better=found.higher_is_better,
    )
