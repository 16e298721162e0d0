"""Calibration: measure what S eq. (3)-(4) need to know of this machine, model and network.

Every worker measures the same thing at the same time, so that what they share (cores, memory, the
wire) is shared as in training; a profile holds the means over workers.
"""

import copy
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from thinwire.exchange import Ledger, Wire, shared_wire, split
from thinwire.optim import OneBitSGD
from thinwire.optim.group_bucket import cut_into_buckets
from thinwire.optim.postprocess import AdaGrad, State, post_process
from thinwire.plan import CodeTimes, Network, Profile, Setting, SubBatchTimes
from thinwire.plan.methods import ONE_BIT, step
from thinwire.plan.profile import CODES
from thinwire.quantize import ErrorFeedback, FlatSpace, named_code
from thinwire.train.measure_wire import measure_link
from thinwire.train.summary import versions

ROUNDS = 12
PACKETS = 4  # that are added in one pass
# Work shorter than this is repeated within a round: several turns of a scheduler (4 ms each), so
# that workers that share processors are seen to.
LEAST_SECONDS = 0.02
NETWORK_STEPS = 30

Works = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Workload:
    """What is calibrated: a model and samples it can be trained on.

    Attributes:
        model: any module from inputs to logits.
        inputs: ``[n, ...]``, at least as many as the largest sub-batch.
        targets: int64 ``[n]``.
        momentum: of the optimiser that post-processes.
        adagrad: where it divides.
        bucket_mb: see ``OneBitSGD``.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    momentum: float = 0.9
    adagrad: AdaGrad = "aggregate"
    bucket_mb: float = 25.0

    def loss(self, samples: int) -> Tensor:
        """Mean loss over samples gathered from the data, as in the training loop."""
        chosen = torch.arange(samples).mul_(7919) % len(self.inputs)
        return F.cross_entropy(self.model(self.inputs[chosen]), self.targets[chosen])


def calibrate(name: str, work: Workload, sizes: Sequence[int]) -> Profile:
    """Measure a profile; all workers call it together and get the same.

    Args:
        name: of the profile.
        work: what to train.
        sizes: sub-batch sizes to measure, ascending.
    """
    wire = shared_wire(None, Ledger())
    parameters = [(n, p) for n, p in work.model.named_parameters() if p.requires_grad]
    buckets = cut_into_buckets(parameters, work.bucket_mb * 2**20)
    middle = sizes[len(sizes) // 2]
    works: Works = {
        **{f"gradient {n}": partial(_gradient, work, n) for n in sizes},
        "forward": partial(_forward, work, middle),
        "product": partial(_product, work, middle),
        **_passes(work, buckets),
    }
    with ExitStack() as stack:
        for code in CODES:
            alone = _step(work, middle, code, _only_me(wire))
            works[f"{code} step"] = stack.enter_context(alone)
        seconds = _measure(wire, works)
    each = {key: value / sum(p.numel() for _, p in parameters) for key, value in seconds.items()}
    gradient = f"gradient {middle}"
    profile = Profile(
        name=name,
        buckets=tuple(tuple(tuple(p.shape) for _, p in bucket) for bucket in buckets),
        compute=SubBatchTimes.increasing(sizes, [seconds[f"gradient {n}"] for n in sizes]),
        collect=each["collect"],
        post=each["post"],
        apply=each["apply"],
        codes={code: _code_times(code, each, seconds, gradient) for code in CODES},
        product_ratio=seconds["product"] / seconds[gradient],
        forward_ratio=seconds["forward"] / seconds[gradient],
        link=measure_link(),
        processors=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        workers=wire.world,
        versions=versions(),
    )
    return profile if profile.link is None else _in_training(profile, work, wire, middle)


def _code_times(
    code: str, each: dict[str, float], seconds: dict[str, float], gradient: str
) -> CodeTimes:
    """What a code takes: seconds a value, and of a step what its parts do not explain."""
    parts = [gradient, "collect", "post", "apply"]
    parts += [f"{code} {work}" for work in ("encode", "add", "encode", "decode")]
    overhead = max(0.0, seconds[f"{code} step"] - sum(seconds[part] for part in parts))
    return CodeTimes(each[f"{code} encode"], each[f"{code} decode"], each[f"{code} add"], overhead)


def _measure(wire: Wire, works: Works) -> dict[str, float]:
    """Seconds each work takes: the median over rounds, the mean over workers.

    Everything is measured once a round, so that a machine that is busier for a while slows all of
    it.
    """
    repeats = {name: _repeats(work) for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            work()  # bring its data back into the caches, as in a loop that does nothing else
            wire.sum(torch.zeros(1), "plan")  # begin together
            started = time.perf_counter()
            for _ in range(repeats[name]):
                work()
            times[name].append((time.perf_counter() - started) / repeats[name])
    own = torch.tensor([statistics.median(t) for t in times.values()], dtype=torch.float64)
    means = wire.sum(own, "plan") / wire.world
    return dict(zip(works, means.tolist(), strict=True))


def _repeats(work: Callable[[], object]) -> int:
    """How often to call short work in a row; the first call warms up."""
    work()
    started = time.perf_counter()
    work()
    return min(1000, math.ceil(LEAST_SECONDS / max(time.perf_counter() - started, 1e-9)))


# --- computing ----------------------------------------------------------------------------------


def _gradient(work: Workload, samples: int) -> None:
    work.model.zero_grad(set_to_none=True)
    work.loss(samples).backward()


def _forward(work: Workload, samples: int) -> None:
    with torch.no_grad():
        work.loss(samples)


def _product(work: Workload, samples: int) -> None:
    """A Hessian product by double backward, graph and all."""
    parameters = [p for p in work.model.parameters() if p.requires_grad]
    gradient = torch.autograd.grad(work.loss(samples), parameters, create_graph=True)
    torch.autograd.grad(gradient, parameters, [g.detach() for g in gradient])


# --- passes over the whole model ----------------------------------------------------------------


def _passes(work: Workload, buckets: list[list[tuple[str, nn.Parameter]]]) -> Works:
    """Collect, apply, post-process, and each code's encode and decode."""
    members = [[p.detach().clone() for _, p in bucket] for bucket in buckets]
    spaces = [FlatSpace([p.shape for p in bucket]) for bucket in members]
    flats = [torch.zeros(space.values) for space in spaces]
    update = torch.randn(sum(space.values for space in spaces))
    state: State = {}

    def collect() -> None:
        for space, flat, bucket in zip(spaces, flats, members, strict=True):
            space.collect(bucket, flat)

    def apply() -> None:
        for space, flat, bucket in zip(spaces, flats, members, strict=True):
            torch._foreach_sub_(bucket, space.views(flat))

    def post() -> None:
        update.div_(1.0)  # the mean over samples
        adagrad, momentum = work.adagrad, work.momentum
        post_process(update, None, state, lr=1.0, momentum=momentum, adagrad=adagrad, eps=1.0)

    passes: Works = {"collect": collect, "apply": apply, "post": post}
    for name in CODES:
        passes |= _code_passes(name, spaces)
    return passes


def _code_passes(name: str, spaces: Sequence[FlatSpace]) -> Works:
    """Quantising with error feedback, decoding, and adding: PACKETS packets of a stripe."""
    code = named_code(name)
    feedback = [ErrorFeedback(space.values) for space in spaces]
    payloads = [
        torch.empty(code.payload_bytes(space.columns), dtype=torch.uint8) for space in spaces
    ]
    stripes = [split(space.columns, PACKETS)[0] for space in spaces]
    for errors in feedback:
        errors.values.normal_()

    def encode() -> None:
        for space, errors, payload in zip(spaces, feedback, payloads, strict=True):
            errors.encode(code, 1.0, space.columns, payload)
            errors.commit()

    def decode() -> None:
        for space, errors, payload in zip(spaces, feedback, payloads, strict=True):
            code.decode(payload, space.columns, errors.values, accumulate=False)

    def add() -> None:
        for stripe, errors, payload in zip(stripes, feedback, payloads, strict=True):
            packet = payload[: code.payload_bytes(stripe.columns)]
            code.sum([packet] * PACKETS, stripe.columns, errors.values[: stripe.values])

    return {f"{name} encode": encode, f"{name} decode": decode, f"{name} add": add}


# --- a whole step -------------------------------------------------------------------------------


def _in_training(profile: Profile, work: Workload, wire: Wire, samples: int) -> Profile:
    """The profile with what collectives wait within a training step (``Link.waiting``).

    What a 1-bit step over this network takes beyond its prediction is shared among its
    collectives, two a bucket.
    """
    times = []
    with _step(work, samples, "sign", None) as take_step:
        for _ in range(NETWORK_STEPS):
            started = time.perf_counter()
            take_step()
            times.append(time.perf_counter() - started)
    own = torch.tensor(statistics.median(times), dtype=torch.float64)
    measured = float(wire.sum(own, "plan")) / wire.world
    assert profile.link is not None
    predicted = step(
        Setting(profile, Network(profile.link)), ONE_BIT, samples * wire.world, wire.world
    )
    assert predicted is not None
    waiting = max(0.0, measured - predicted.seconds) / (2 * len(profile.buckets))
    return replace(profile, link=replace(profile.link, waiting=waiting))


def _only_me(wire: Wire) -> dist.ProcessGroup | None:
    """A group of this worker alone; all make one together."""
    if wire.world == 1:
        return None
    group: dist.ProcessGroup = [dist.new_group([rank]) for rank in range(wire.world)][wire.rank]
    return group


@contextmanager
def _step(
    work: Workload, samples: int, code: str, group: dist.ProcessGroup | None
) -> Iterator[Callable[[], None]]:
    """A training step among these workers; with this one alone: what the parts do not explain."""
    model = copy.deepcopy(work.model)
    copied = replace(work, model=model)
    optimizer = OneBitSGD(
        model.named_parameters(),
        lr=1e-6,
        momentum=work.momentum,
        adagrad=work.adagrad,
        code=code,
        bucket_mb=work.bucket_mb,
        process_group=group,
    )

    def take() -> None:
        optimizer.zero_grad()
        copied.loss(samples).backward()
        optimizer.step()

    with closing(optimizer):
        yield take
