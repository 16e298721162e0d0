"""The goal of training: which metric is to reach which value.

A metric goes by the name of the field that holds it in epoch events. This module alone knows how
such names are read: which are rates (fractions in events, per cent for people), and of which a
larger value is the better one.
"""

import math
from dataclasses import dataclass

SHORT_NAMES = {"test": "test_error", "train": "train_error"}
RATES = ("error", "error_rate", "accuracy")  # how names of rates end
LARGER_IS_BETTER = ("accuracy",)


@dataclass(frozen=True)
class Goal:
    """A value of a metric at which training has done its work.

    Attributes:
        metric: the field of epoch events that holds the metric.
        value: what is to be reached, in the unit of the events.
        words: the goal as people say it, such as "2.5 % test error".
        larger_is_better: whether the metric grows as training goes on.
    """

    metric: str
    value: float
    words: str
    larger_is_better: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a value of the metric is as good as the goal or better.

        >>> make_goal("test", 2.5).is_met(0.02), make_goal("test_accuracy", 98).is_met(0.97)
        (True, False)
        """
        return value >= self.value if self.larger_is_better else value <= self.value


def make_goal(metric: str = "test", target: float = 2.5) -> Goal:
    """Make a goal from what a user says.

    Args:
        metric: the name of a field of epoch events; "test" and "train" stand for the errors.
        target: the value to reach; of a rate in per cent.

    Raises:
        ValueError: a rate is not between 0 and 100 per cent, or a value is not finite.

    >>> make_goal("train", 2)
    Goal(metric='train_error', value=0.02, words='2 % train error', larger_is_better=False)
    >>> make_goal("test_loss", 0.3).words
    '0.3 test loss'
    """
    name = SHORT_NAMES.get(metric, metric)
    rate = name.endswith(RATES)
    if rate and not 0 < target < 100:
        raise ValueError(f"target: expected per cent between 0 and 100, got {target}")
    if not math.isfinite(target):
        raise ValueError(f"target: expected a finite value of {name}, got {target}")
    unit = " %" if rate else ""
    return Goal(
        metric=name,
        value=target / 100 if rate else target,
        words=f"{target:g}{unit} {name.replace('_', ' ')}",
        larger_is_better=name.endswith(LARGER_IS_BETTER),
    )
