"""What a step's seconds are spent on, in the terms of S eq. (3)-(4).

A step is a minibatch. On the thread that trains, its seconds are

    step = frm + post + comm + upd + other

    frm     N T_calc^frm / K: gather this worker's samples, forward, loss, backward
    post    C T_calc^post / K
    comm    T_comm
    upd     T_calc^upd
    other   the rest: Python, the sampler, losses and errors for the display, events, agreement

"post", "comm" and "upd" are made of the work that ``exchange/timeline`` lists, as far as nothing
hides it. "other" is what the measured parts leave of the counted seconds (those of samples per
second), so that the sum is exact. "hidden" is what the communication thread did while this thread
did something else. The planner's terms (``plan/step.Step``) are exposed and hidden time together:
its variable is frm, its post, comm and upd are each the sum of both, its hidden all that is hidden.
"""

from typing import Any

import torch
from torch import Tensor

from thinwire.exchange import TERMS, Timeline
from thinwire.train.counts import Counts


class Breakdown:
    """This worker's seconds, read off at the ends of stretches of steps.

    Args:
        counts: of the run, with its stopwatch.
        times: of the optimiser's exchanges.

    Attributes:
        frm: seconds of forward and backward so far.
        samples: that they were taken over.
    """

    def __init__(self, counts: Counts, times: Timeline) -> None:
        self._counts, self._times = counts, times
        self.frm = 0.0
        self.samples = 0

    def read(self) -> Tensor:
        """Totals so far, float64; ``per_step`` takes the difference of two readings."""
        exposed, hidden = self._times.exposed, self._times.hidden
        parts = [*(exposed[term] for term in TERMS), *(hidden[term] for term in TERMS)]
        head = [self._counts.steps, self.samples, self._counts.watch.seconds, self.frm]
        return torch.tensor([*head, *parts], dtype=torch.float64)


def per_step(stretch: Tensor) -> dict[str, Any] | None:
    """Seconds of a mean step.

    Args:
        stretch: the difference of two readings; a mean over workers, too.

    Returns:
        "step" and its parts "frm", "post", "comm", "upd", "other" in seconds; "hidden", by term;
        "samples" of this worker, so that T_calc^frm is frm / samples. None without a step.
    """
    steps, *totals = stretch.tolist()
    if steps <= 0:
        return None
    samples, seconds, frm, *rest = (total / steps for total in totals)
    exposed = {"frm": frm, **dict(zip(TERMS, rest, strict=False))}
    return {
        "step": seconds,
        **exposed,
        "other": seconds - sum(exposed.values()),
        "hidden": dict(zip(TERMS, rest[len(TERMS) :], strict=True)),
        "samples": samples,
    }
