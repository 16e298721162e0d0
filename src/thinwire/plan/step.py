"""One minibatch: what each part of it takes, what hides behind what, and the sum.

[Seide 2014, section 2] counts three costs and an exchange. There are two refinements, both zero
where they do not apply: an exchange costs a node some time that is in none of the paper's terms
(`Costs.exchange`), and buckets leave while backward still computes the next (`BucketTimes` of more
than one bucket).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thinwire.plan.equations import step_seconds
from thinwire.plan.subbatch import SubBatchTimes

# Of forward and backward: one of the paper's "three large matrix products per layer".
FORWARD = 1 / 3


@dataclass(frozen=True)
class Costs:
    """What one worker's computing takes, in seconds.

    Attributes:
        times: n T_frm(n), forward and backward over n samples.
        post: C T_post, post-processing of the whole model; owners share it.
        prepare: the part of T_upd before stage 1 (copy gradients, quantise).
        add: the part between the stages (decode the K packets of a stripe: one model in all).
        apply: the part after stage 2 (decode, add to the model). T_upd = prepare + add + apply.
        exchange: for each exchange, outside the paper's terms and never hidden.
        read: for each sample of the *whole* minibatch, which every node spends; double buffering
            hides it.
        own: a worker's own update of the whole model, in each local step.
    """

    times: SubBatchTimes
    post: float
    prepare: float = 0.0
    add: float = 0.0
    apply: float = 0.0
    exchange: float = 0.0
    read: float = 0.0
    own: float = 0.0

    @property
    def upd(self) -> float:
        """T_upd."""
        return self.prepare + self.add + self.apply

    def slowed(self, factor: float) -> "Costs":
        """Return the costs of the same work on processors that are shared."""
        rest = {name: value * factor for name, value in vars(self).items() if name != "times"}
        slower = SubBatchTimes(self.times.sizes, tuple(t * factor for t in self.times.seconds))
        return Costs(times=slower, **rest)

    def split(self, degree: int, efficiency: float) -> "Costs":
        """Return the costs of a model over ``degree`` processors [Seide 2014, sections 4 and 5.5].

        Component-wise work divides perfectly; the variable cost by 1 + (degree - 1) efficiency.

        >>> costs = Costs(SubBatchTimes((1,), (3.1,)), post=2.0, apply=4.0).split(2, 0.55)
        >>> round(costs.times.seconds[0], 9), costs.post, costs.upd
        (2.0, 1.0, 2.0)
        """
        gain = 1 + (degree - 1) * efficiency
        faster = SubBatchTimes(self.times.sizes, tuple(t / gain for t in self.times.seconds))
        parts = {name: getattr(self, name) / degree for name in ("post", "prepare", "add", "apply")}
        return replace(self, times=faster, **parts)


@dataclass(frozen=True)
class BucketTimes:
    """One bucket's exchange.

    Attributes:
        share: its share of the model's values.
        gradients: seconds of stage 1.
        updates: seconds of stage 2.
    """

    share: float
    gradients: float
    updates: float = 0.0


@dataclass(frozen=True)
class Step:
    """A predicted step; all times in seconds for one minibatch.

    Attributes:
        minibatch: N.
        workers: data-parallel nodes, K.
        variable: forward and backward.
        post: this owner's post-processing.
        upd: work on the whole model that every worker repeats.
        rest: what is in none of the paper's terms (`Costs.exchange`, `Costs.read`).
        comm: on the wire.
        hidden: the part of all these during which another one was under way.
    """

    minibatch: int
    workers: int
    variable: float
    post: float
    upd: float
    rest: float
    comm: float
    hidden: float

    @property
    def seconds(self) -> float:
        """The seconds of the step."""
        return self.variable + self.post + self.upd + self.rest + self.comm - self.hidden

    @property
    def samples_per_second(self) -> float:
        """N over the step."""
        return self.minibatch / self.seconds


def predict(
    costs: Costs,
    wires: Sequence[BucketTimes],
    minibatch: int,
    workers: int,
    *,
    double_buffer: bool = False,
) -> Step:
    """Predict a step of N samples on K workers.

    Args:
        costs: of one worker.
        wires: the buckets, in the order in which they leave; their shares add up to 1. Empty for
            one worker.
        minibatch: N, over all workers.
        workers: K.
        double_buffer: exchange one half while computing the next [section 2.2].
    """
    halves = 2 if double_buffer and workers > 1 else 1
    variable = costs.times.variable(math.ceil(minibatch / halves / workers))  # the fullest worker
    post = costs.post / workers
    comm = sum(wire.gradients + wire.updates for wire in wires)
    calc = variable + post + costs.upd  # the paper's T_calc, as in equations.t_calc
    rest = halves * costs.exchange + costs.read * minibatch
    if halves > 1:
        seconds = step_seconds(calc, comm, halves=halves)
        # Reading goes on beside the computing, as the exchange does.
        seconds = max(seconds, costs.read * minibatch) + halves * costs.exchange
    else:
        seconds = pipeline(variable, post, costs, wires) + rest
    return Step(
        minibatch,
        workers,
        variable=halves * variable,
        post=halves * post,
        upd=halves * costs.upd,
        rest=rest,
        comm=halves * comm,
        hidden=max(0.0, round(halves * (calc + comm) + rest - seconds, 12)),
    )


def pipeline(variable: float, post: float, costs: Costs, wires: Sequence[BucketTimes]) -> float:
    """Return the seconds of a step without double buffering, bucket by bucket.

    One processor and one wire: a bucket's stage 1 begins when backward has reached it, and its
    stage 2 when its owner has post-processed it. With one bucket nothing overlaps: T_calc + T_comm.

    >>> costs = Costs(SubBatchTimes((1,), (9.0,)), post=1.0)
    >>> pipeline(9.0, 1.0, costs, [BucketTimes(1.0, 2.0, 2.0)])
    14.0
    >>> pipeline(9.0, 1.0, costs, 2 * [BucketTimes(0.5, 2.0)])  # the first hides in backward
    12.0
    """
    busy, wire_free = FORWARD * variable, 0.0
    for wire in wires:
        busy += wire.share * ((1 - FORWARD) * variable + costs.prepare)
        wire_free = max(wire_free, busy) + wire.gradients
    if not wires:
        return variable + post + costs.upd
    busy = max(busy + costs.add, wire_free + wires[-1].share * costs.add)
    wire_free = busy
    for wire in wires:
        busy += wire.share * post
        wire_free = max(wire_free, busy) + wire.updates
    return max(busy + costs.apply, wire_free + wires[-1].share * costs.apply)
