"""Local steps: rounds of H steps of each worker's own, and one exchange [equations of rounds].

What is in no term of ``equations.round_seconds`` is counted as the other methods count it: a worker
computes on its N / K samples, an exchange costs what ``Costs`` says. Buckets are not overlapped:
all of them leave when the round is over.
"""

import math
from collections.abc import Sequence

from thinwire.plan import equations
from thinwire.plan.step import BucketTimes, Costs, Step


def predict_round(
    costs: Costs,
    wires: Sequence[BucketTimes],
    minibatch: int,
    workers: int,
    *,
    every: int,
    delay: int,
) -> Step:
    """Predict the mean step of a round; of what happens once in a round it has a share.

    Args:
        costs: of one worker, ``own`` included.
        wires: the buckets; empty for one worker.
        minibatch: N, over all workers, of one local step.
        workers: K.
        every: H, the local steps of a round.
        delay: D, steps of the next round beside which the wire works.
    """
    variable = costs.times.variable(math.ceil(minibatch / workers))  # the fullest worker
    post, comm = costs.post / workers, sum(wire.gradients + wire.updates for wire in wires)
    fixed = post + costs.upd + costs.exchange
    seconds = equations.round_seconds(every, delay, variable + costs.own, fixed, comm)
    all_parts = every * (variable + costs.own) + fixed + comm
    return Step(
        minibatch,
        workers,
        variable=variable,
        post=post / every,
        upd=costs.own + costs.upd / every,
        rest=costs.exchange / every,
        comm=comm / every,
        hidden=max(0.0, round((all_parts - seconds) / every, 12)),
    )
