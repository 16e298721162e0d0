"""Where a run stands in choosing its minibatch size (S section 4); ``trials`` does the choosing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Selection:
    """The selection in progress, if there is one; the same on every worker.

    Attributes:
        begun: the last multiple of ``every`` samples for which a selection has begun.
        untried: sizes still to be tried, in rising order; none between selections.
        tried: deciding metric of each size that has been; NaN where training failed.
    """

    begun: int = 0
    untried: list[int] = field(default_factory=list)
    tried: dict[int, float] = field(default_factory=dict)

    def is_due(self, samples: int, every: int) -> bool:
        """Whether a multiple of ``every`` (0: none) has been reached that has had no selection.

        >>> selection = Selection()
        >>> selection.is_due(90, 100), selection.is_due(210, 100)
        (False, True)
        >>> selection.begin(210, 100, [8, 16])
        >>> selection.is_due(210, 100), selection.is_due(300, 100)
        (False, True)
        """
        return every > 0 and samples // every > self.begun

    def begin(self, samples: int, every: int, sizes: list[int]) -> None:
        """These sizes are to be tried; all multiples reached are dealt with."""
        self.begun, self.untried = samples // every, sizes

    def note(self, value: float) -> None:
        """The first of the untried sizes has been tried."""
        self.tried[self.untried.pop(0)] = value

    def finish(self) -> dict[int, float]:
        """The deciding metric of all sizes; the next selection begins with none."""
        tried, self.tried = self.tried, {}
        return tried

    def state_dict(self) -> dict[str, Any]:
        """As JSON can say it: sizes are kept as a list, and a failure as null."""
        return {
            "begun": self.begun,
            "untried": [*self.untried],
            "tried": [[size, finite_or_none(value)] for size, value in self.tried.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.begun, self.untried = state["begun"], [*state["untried"]]
        self.tried = {size: math.nan if value is None else value for size, value in state["tried"]}


def finite_or_none(value: float) -> float | None:
    """JSON has no word for NaN."""
    return value if math.isfinite(value) else None
