"""The ways to train that the planner compares, and what each costs on a calibrated machine.

The passes over the model that each method takes (values M, seconds a value from the profile):

=================  ==========================  =========================  =======================
                   T_upd, whole model          C T_post, divided by K     on the wire
=================  ==========================  =========================  =======================
dense, 1-bit       collect, encode, add the    post-process, encode       all_to_all, all_gather
                   K packets of a stripe,                                 of the code's packets
                   decode, apply
fp16               cast and back, post-        nothing: every worker      ring all-reduce, 2 bytes
                   process, apply              repeats it                 a value
local steps        the same as 1-bit once in   the same, once in a        the same, once in a round
                   a round; post-process and   round
                   apply in every step
=================  ==========================  =========================  =======================
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thinwire.plan import equations
from thinwire.plan.network import Network
from thinwire.plan.profile import Profile
from thinwire.plan.rounds import predict_round
from thinwire.plan.setting import Setting
from thinwire.plan.step import BucketTimes, Costs, Step, predict
from thinwire.plan.wire_format import Shape, bucket_bytes, values

HALF_BYTES = 2
MOST_NODES = 4096  # up to which K-hat is looked for
MOST_EVERY = 2**20  # local steps in a round


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: in tables and figures.
        code: of thinwire's exchange, or None for DistributedDataParallel's ring in fp16.
        double_buffer: whether half-minibatches overlap [Seide 2014, section 2.2].
        model_parallel: processors that share one model.
        every: H, local steps of a round; 0 exchanges the gradients of every step.
        delay: D, local steps of the next round beside which the exchange goes on.
    """

    name: str
    code: str | None
    double_buffer: bool = False
    model_parallel: int = 1
    every: int = 0
    delay: int = 0


DENSE = Method("dense", "float32")
FP16 = Method("fp16", None)
ONE_BIT = Method("1-bit", "sign")
DOUBLE_BUFFERED = Method("1-bit DB", "sign", double_buffer=True)
METHODS = (DENSE, FP16, ONE_BIT, DOUBLE_BUFFERED)


def model_parallel(method: Method, degree: int) -> Method:
    """Return the same method with each model over ``degree`` processors."""
    return replace(method, name=f"{method.name} MP{degree}", model_parallel=degree)


def local_steps(method: Method, every: int, delay: int = 0) -> Method:
    """Return the method with an exchange once in ``every`` local steps.

    >>> local_steps(ONE_BIT, 8).name, local_steps(ONE_BIT, 8, 2).name
    ('1-bit H8', '1-bit H8 D2')
    """
    name = f"{method.name} H{every}{f' D{delay}' if delay else ''}"
    return replace(method, name=name, every=every, delay=delay)


def costs_of(profile: Profile, method: Method) -> Costs:
    """Return one worker's costs in seconds, model parallelism not yet considered."""
    m = profile.values
    if method.code is None:
        decoded = profile.collect + profile.post + profile.apply
        return Costs(
            profile.compute,
            post=0.0,
            prepare=m * profile.collect,
            apply=m * decoded,
            exchange=profile.codes["sign"].overhead,  # of a step that quantises next to nothing
        )
    code = profile.codes[method.code]
    return Costs(
        profile.compute,
        post=m * (profile.post + code.encode),
        prepare=m * (profile.collect + code.encode),
        add=m * code.add,
        apply=m * (code.decode + profile.apply),
        exchange=code.overhead,
        own=m * (profile.post + profile.apply) if method.every else 0.0,
    )


def wires_of(profile: Profile, method: Method, network: Network, workers: int) -> list[BucketTimes]:
    """Return what each bucket takes on the wire.

    Under model parallelism every shard has a group of its own that exchanges its part of the model;
    the groups of one node share its link, so together they send what one model takes.

    Args:
        profile: the model's buckets.
        method: how they travel.
        network: over what.
        workers: data-parallel nodes, K.
    """
    if workers == 1:
        return []
    wires = []
    for shapes in profile.buckets:
        share = values(shapes) / profile.values
        wires.append(_wire(shapes, share, method.code, network, workers))
    return wires


def _wire(
    shapes: Sequence[Shape], share: float, code: str | None, network: Network, workers: int
) -> BucketTimes:
    if code is None:
        total = HALF_BYTES * values(shapes)
        return BucketTimes(share, network.all_reduce(total, workers))
    sent = bucket_bytes(shapes, code, workers)
    gradients = network.all_to_all(sent.gradients, workers)
    return BucketTimes(share, gradients, network.all_gather(sent.packet, workers))


def contention(setting: Setting, processors: int) -> float:
    """Return how many times slower computing is than in calibration, if processors are shared."""
    if not setting.shared:
        return 1.0
    profile = setting.profile
    asked = processors * profile.threads / profile.processors
    calibrated = profile.workers * profile.threads / profile.processors
    return max(1.0, asked) / max(1.0, calibrated)


def step(setting: Setting, method: Method, minibatch: int, processors: int) -> Step | None:
    """Predict a step of a method.

    Args:
        setting: where.
        method: how.
        minibatch: N, over all workers.
        processors: workers in all; K is these over the method's model parallelism.

    Returns:
        The step; None if the processors do not divide by the model parallelism.
    """
    if processors % method.model_parallel:
        return None
    workers = processors // method.model_parallel
    costs = _costs(setting, method, processors)
    wires = wires_of(setting.profile, method, _network(setting, method), workers)
    if method.every:
        return predict_round(
            costs, wires, minibatch, workers, every=method.every, delay=method.delay
        )
    return predict(costs, wires, minibatch, workers, double_buffer=method.double_buffer)


def alone(setting: Setting, minibatch: int) -> float:
    """Return the seconds of a step of plain training on one processor, with no exchange."""
    profile = setting.profile
    plain = profile.values * (profile.post + profile.apply)
    return profile.compute.variable(minibatch) + plain + profile.codes["sign"].overhead


def k_hat(setting: Setting, method: Method, minibatch: int) -> float:
    """Return K-hat in data-parallel nodes, with T_frm at the sub-batch size K-hat leads to.

    Where T_frm is constant and the wire's time does not grow with K this is equation (4). Without
    double buffering it is where a step is half exchange (`equations.k_hat`). Local steps compute H
    minibatches for each exchange.
    """
    halves, steps = 2 if method.double_buffer else 1, max(1, method.every)
    network = _network(setting, method)

    def calc(nodes: float) -> float:
        costs = _costs(setting, method, math.ceil(nodes * method.model_parallel))
        n = minibatch / halves / nodes
        return equations.t_calc(
            nodes,
            steps * minibatch,
            costs.times.per_sample(n),
            costs.post,
            costs.upd + costs.exchange + steps * costs.own,
            halves=halves,
        )

    def comm(nodes: float) -> float:
        wires = wires_of(setting.profile, method, network, max(2, math.floor(nodes)))
        return sum(wire.gradients + wire.updates for wire in wires)

    return equations.crossing(calc, comm, limit=MOST_NODES)


def h_hat(setting: Setting, method: Method, minibatch: int, processors: int) -> int | None:
    """Return H-hat: the fewest local steps at which the wire no longer limits (`equations.h_hat`).

    Args:
        setting: where.
        method: whose code and delay count; how many local steps it takes itself does not.
        minibatch: N, over all workers.
        processors: workers, K; at least 2.

    Returns:
        H-hat; None where the method has no form with local steps: fp16's ring, double buffering
        and model parallelism.
    """
    if method.code is None or method.double_buffer or method.model_parallel > 1:
        return None
    costs = _costs(setting, replace(method, every=1), processors)
    local = costs.times.variable(math.ceil(minibatch / processors)) + costs.own
    wires = wires_of(setting.profile, method, setting.network, processors)
    comm = sum(wire.gradients + wire.updates for wire in wires)
    return equations.h_hat(method.delay, local, comm)


def bytes_per_sample(setting: Setting, method: Method, minibatch: int, workers: int) -> float:
    """Return what the busiest worker sends for each sample of the whole minibatch.

    Args:
        setting: the model.
        method: how it is exchanged.
        minibatch: N, over all workers.
        workers: data-parallel nodes, K; at least 2.
    """
    buckets, code = setting.profile.buckets, method.code
    if code is None:
        sent = 2 * HALF_BYTES * setting.profile.values * (workers - 1) / workers
    else:
        sent = sum(bucket_bytes(shapes, code, workers).total for shapes in buckets)
    exchanges = 2 if method.double_buffer else 1 / max(1, method.every)
    return sent * exchanges / method.model_parallel / minibatch


def _costs(setting: Setting, method: Method, processors: int) -> Costs:
    """One node's costs where this many processors work."""
    costs = costs_of(setting.profile, method).slowed(contention(setting, processors))
    if method.model_parallel > 1:
        return costs.split(method.model_parallel, setting.efficiency)
    return costs


def _network(setting: Setting, method: Method) -> Network:
    """The network as data-parallel nodes see it: a node is several workers of a machine."""
    per_node = max(1, setting.network.per_node // method.model_parallel)
    return replace(setting.network, per_node=per_node)
