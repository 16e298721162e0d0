"""The serial start [Seide 2014, section 5.2]: worker 0 trains alone, then hands everything over."""

import json
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from thinwire.exchange import (
    HEADER_BYTES,
    SERIAL,
    Header,
    check_alike,
    copy_from_first,
    digest_of,
    share_text,
    span,
)
from thinwire.optim.engine import Engine, sum_of_squares
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.inner_state import scatter_inner
from thinwire.optim.progress import StepReport
from thinwire.quantize import all_finite

_STAGE = "cold start"  # where the ledger has always entered it


class SerialStart:
    """Worker 0 updates its replica alone; the others only learn how far it has come.

    Args:
        engine: of the optimiser.
    """

    phase, begun = SERIAL, False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def gradient_ready(self, parameter: Tensor, samples: float) -> None:
        """Do nothing: no gradient travels."""

    def step(self, samples: float) -> StepReport:
        """Take worker 0's step, and tell the others of it in one 16-byte packet.

        Args:
            samples: in worker 0's minibatch; what the others say does not count.

        Raises:
            ValueError: on every worker, if worker 0's minibatch is empty.
            DifferentWorkersError: on every worker, if they go by different options.
        """
        engine = self._engine
        facts = engine.facts()
        names, spans, wire = engine.names(), engine.times.own, engine.wire
        nonfinite = None
        if wire.rank == 0:
            with span("sub-gradient", spans):
                nonfinite = _collect_finite(engine.buckets)
        packet = torch.zeros(HEADER_BYTES, dtype=torch.uint8, device="cpu")
        found_here = -1 if nonfinite is None else names.index(nonfinite)
        Header(samples, found_here, 0, stated=digest_of(facts)).write(packet)
        with span("all_gather", spans):
            packets = engine.run(lambda: wire.all_gather(packet, _STAGE))
        headers = [Header.read(packet) for packet in packets]
        header = headers[0]
        if any(other.stated != header.stated for other in headers):
            engine.run(partial(check_alike, facts, wire, "step"))
        if engine.admit():
            return self.step(samples)  # with their gradients
        if header.samples <= 0:
            raise ValueError(f"samples: expected > 0 on worker 0, got {header.samples}")
        index = header.nonfinite_group
        found = engine.agreed(None if index < 0 else (0, names[index]))
        if found is not None:
            return StepReport(self.phase, header.samples, found)
        if wire.rank == 0 and engine.clip_norm is not None:
            gradients = [bucket.scratch for bucket in engine.buckets]
            engine.shorten(gradients, math.sqrt(float(sum_of_squares(gradients))))
        for bucket in engine.buckets if wire.rank == 0 else ():
            with span("post-process", spans):
                engine.update(bucket, bucket.group, bucket.scratch, 0, header.samples)
            bucket.commit_local()
            with span("apply", spans):
                bucket.exchange.subtract(bucket.scratch)
        return StepReport(self.phase, header.samples)

    def discard(self) -> None:
        """Do nothing: no gradient has been sent."""

    @torch.no_grad()
    def end(self) -> None:
        """Give worker 0's parameters to all, and its state to the stripes' owners."""
        for bucket in self._engine.buckets:
            self._hand_over(bucket)

    def _hand_over(self, bucket: GroupBucket) -> None:
        run, wire = self._engine.run, self._engine.wire
        copy_from_worker_0(self._engine, bucket, _STAGE)
        if bucket.exchange.whole:
            run(partial(scatter_inner, bucket, wire, _STAGE))
            return
        own = json.dumps({"kept": [sorted(k) for k in bucket.kept], "scalars": bucket.scalars})
        found = json.loads(run(partial(share_text, own, wire, _STAGE)))
        bucket.kept, bucket.scalars = [set(names) for names in found["kept"]], found["scalars"]
        sizes = [stripe.values for stripe in bucket.exchange.stages.stripes]
        for name in sorted(set().union(*bucket.kept)):
            whole = bucket.state.pop(name, bucket.scratch.new_empty(0))
            bucket.state[name] = run(partial(wire.scatter, whole, sizes, _STAGE))
        local = bucket.local_adagrad()
        if local is not None:
            run(partial(wire.broadcast, local.sum_of_squares, _STAGE))


def copy_from_worker_0(engine: Engine, bucket: GroupBucket, stage: str) -> None:
    """Overwrite a bucket's parameters by worker 0's."""
    engine.run(partial(copy_from_first, bucket.exchange.shards, engine.wire, stage))


def _collect_finite(buckets: Sequence[GroupBucket]) -> str | None:
    """Collect worker 0's gradients into the buckets' scratch.

    Returns:
        The name of the first parameter with a NaN or infinity; then buckets are incomplete.
    """
    for bucket in buckets:
        bucket.collect_gradients()
        bucket.exchange.reduce_alone()
        finite = [all_finite(view) for view in bucket.space.views(bucket.scratch)]
        if not all(finite):
            return bucket.names[finite.index(False)]
    return None
