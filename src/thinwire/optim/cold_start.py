"""The serial cold start (S section 5.2): worker 0 trains alone, then hands everything over."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from thinwire.exchange import HEADER_BYTES, Header, Span, Wire, span
from thinwire.optim.bucket import Bucket
from thinwire.optim.progress import Culprit, StepReport
from thinwire.optim.stages import PostProcess
from thinwire.quantize import all_finite

Run = Callable[[Callable[[], Any]], Any]  # runs a job on the communication thread


def serial_step(
    buckets: Sequence[Bucket],
    samples: float,
    post_process: PostProcess,
    wire: Wire,
    run: Run,
    agreed: Callable[[Culprit | None], Culprit | None],
    spans: list[Span],
) -> StepReport:
    """Worker 0 updates its replica alone; the others only learn how far it has come.

    Args:
        buckets: of all parameters.
        samples: in worker 0's minibatch; what the others say does not count.
        post_process: see ``ExchangedOptimizer``.
        wire: the workers; one 16-byte packet.
        run: runs a job on the communication thread.
        agreed: what any of the ranks that share the parameters found.
        spans: receives when what was done.

    Raises:
        ValueError: on every worker, if worker 0's minibatch is empty.
    """
    names = [name for bucket in buckets for name in bucket.names]
    nonfinite = None
    if wire.rank == 0:
        with span("sub-gradient", spans):
            nonfinite = collect_finite(buckets)
    packet = torch.zeros(HEADER_BYTES, dtype=torch.uint8)
    Header(samples, -1 if nonfinite is None else names.index(nonfinite), 0).write(packet)
    with span("all_gather", spans):
        packets = run(lambda: wire.all_gather(packet, "cold start"))
    header = Header.read(packets[0])
    if header.samples <= 0:
        raise ValueError(f"samples: expected > 0 on worker 0, got {header.samples}")
    index = header.nonfinite_group
    found = agreed(None if index < 0 else (0, names[index]))
    if found is not None:
        return StepReport("serial", header.samples, found)
    for bucket in buckets if wire.rank == 0 else ():
        with span("post-process", spans):
            post_process(bucket, bucket.group, bucket.scratch, 0, header.samples)
        bucket.commit_local()
        with span("apply", spans):
            bucket.apply(bucket.scratch)
    return StepReport("serial", header.samples)


def collect_finite(buckets: Sequence[Bucket]) -> str | None:
    """Collect worker 0's gradients into the buckets' scratch.

    Returns:
        The name of the first parameter with a NaN or infinity; then buckets are incomplete.
    """
    for bucket in buckets:
        bucket.collect_gradients()
        finite = [all_finite(view) for view in bucket.space.views(bucket.scratch)]
        if not all(finite):
            return bucket.names[finite.index(False)]
    return None


def copy_from_worker_0(bucket: Bucket, wire: Wire, run: Run, stage: str) -> None:
    """Worker 0's parameters to all."""
    if wire.world == 1:
        return
    with torch.no_grad():
        values = bucket.parameter_values(0, bucket.space.values)
        run(partial(wire.broadcast, values, stage))
        bucket.store(values)


def hand_over(bucket: Bucket, scalar_names: Sequence[str], wire: Wire, run: Run) -> None:
    """End of the start: worker 0's parameters go to all, its state to the stripes' owners."""
    stage = "cold start"
    copy_from_worker_0(bucket, wire, run, stage)
    sizes = [stripe.values for stripe in bucket.exchange.stripes]
    for name in bucket.state_names:
        whole = bucket.state.pop(name, None)
        bucket.state[name] = run(partial(wire.scatter, whole, sizes, stage))
    if scalar_names:
        own = [bucket.scalars.get(name, 0.0) for name in scalar_names]
        scalars = torch.tensor(own, dtype=torch.float64)
        run(partial(wire.broadcast, scalars, stage))
        bucket.scalars = dict(zip(scalar_names, scalars.tolist(), strict=True))
    if bucket.local is not None:
        run(partial(wire.broadcast, bucket.local.sum_of_squares, stage))
