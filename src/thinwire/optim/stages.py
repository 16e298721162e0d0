"""The two stages of one exchange, bucket by bucket: the communication thread's work."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from thinwire.exchange import Header, NonFiniteUpdateError, Span, Wire, span
from thinwire.optim.bucket import Bucket
from thinwire.optim.progress import Culprit, StepReport
from thinwire.quantize import StageCodes

Group = dict[str, Any]  # a param group's options
PostProcess = Callable[[Bucket, Group, Tensor, int, float], None]


class UpdateError(FloatingPointError):
    """An owner's update is not finite although every sub-gradient is."""

    def __init__(self, culprit: Culprit) -> None:
        worker, name = culprit
        super().__init__(
            f"worker {worker}: the update of {name!r} is not finite although all gradients are: "
            "lower the learning rate"
        )
        self.culprit = culprit


def reduce(
    bucket: Bucket, codes: StageCodes, samples: float, wire: Wire, *, measure: bool
) -> list[Header]:
    """Stage 1 of a bucket whose sub-gradient has been collected."""
    if measure:
        bucket.exchange.worker.note_input(samples)
    return bucket.exchange.reduce(codes.gradients, samples, wire, "gradients")


def verdict(buckets: Sequence[Bucket], headers: Sequence[list[Header]], phase: str) -> StepReport:
    """What all workers said in stage 1: samples in all, and the first NaN or infinity.

    Raises:
        ValueError: on every worker, if no worker had a sample.
    """
    samples = sum(header.samples for header in headers[0]) if headers else 0.0
    for bucket, of_bucket in zip(buckets, headers, strict=True):
        for worker, header in enumerate(of_bucket):
            if header.nonfinite_group >= 0:
                culprit = worker, bucket.name_of_group(header.nonfinite_group)
                return StepReport(phase, samples, culprit)
    if samples <= 0:
        raise ValueError("samples: expected at least one in some worker's minibatch, got 0")
    return StepReport(phase, samples)


def own_update(
    bucket: Bucket,
    samples: float,
    post_process: Callable[[Tensor, int, float], None],
    spans: list[Span] | None,
    *,
    measure: bool,
) -> None:
    """Between the stages: the sum in this owner's stripe -> the update, in its place.

    Args:
        bucket: what its sub-gradient left behind is kept from here on.
        samples: in the minibatch, over all workers.
        post_process: of this bucket's mean gradient; see ``ExchangedOptimizer``.
        spans: receives when it was done.
        measure: remember the update's size for the residual ratio.
    """
    bucket.commit()
    exchange = bucket.exchange
    with span("post-process", spans):
        update = exchange.owner.values.div_(samples)
        post_process(update, exchange.stripe.start, samples)
    if measure:
        exchange.owner.note_input()


def distribute(bucket: Bucket, codes: StageCodes, out: Tensor, wire: Wire) -> None:
    """Stage 2 of a bucket, all owners' updates to ``out`` ([values]).

    Raises:
        UpdateError: on every worker, if an owner's update is not finite.
    """
    try:
        bucket.exchange.distribute(codes.updates, out, wire, "updates")
    except NonFiniteUpdateError as error:
        raise UpdateError((error.worker, bucket.name_of_group(error.group))) from None
    bucket.exchange.owner.commit()


def residual_ratio(buckets: Sequence[Bucket]) -> tuple[float, float]:
    """|residual| / |input| of stage 1 and of stage 2 on this worker, the largest over buckets."""
    exchanges = [bucket.exchange for bucket in buckets]
    return max(e.worker.ratio() for e in exchanges), max(e.owner.ratio() for e in exchanges)


@torch.no_grad()
def both_stages(
    buckets: Sequence[Bucket],
    groups: Sequence[Group],
    samples: float,
    post_process: PostProcess,
    wire: Wire,
    *,
    measure: bool,
) -> StepReport:
    """A whole exchange of sub-gradients that have been collected -> the buckets' ``pending``.

    Args:
        buckets: of all parameters.
        groups: the options that count, for each bucket; nobody may change them meanwhile.
        samples: in this worker's minibatch.
        post_process: see ``ExchangedOptimizer``.
        wire: the workers.
        measure: report residual ratios.
    """
    headers = [reduce(bucket, bucket.codes, samples, wire, measure=measure) for bucket in buckets]
    report = verdict(buckets, headers, "steady")
    if report.nonfinite is not None:
        return report
    for bucket, group in zip(buckets, groups, strict=True):
        process = partial(post_process, bucket, group)
        own_update(bucket, report.samples, process, wire.spans, measure=measure)
        distribute(bucket, bucket.codes, bucket.receive(), wire)
    ratio = residual_ratio(buckets) if measure else None
    return replace(report, residual_ratio=ratio)
