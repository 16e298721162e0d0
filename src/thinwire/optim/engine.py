"""What all schedules of one optimiser work with: its buckets, wire, thread and post-processing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from thinwire.exchange import Culprit, Fifo, Span, Timeline, Verdict, Wire, joint, span
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.withdrawal import reasons

T = TypeVar("T")
CLIPPING = "clipping"  # where the ledger enters norms
_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_'s
Group = dict[str, Any]  # a param group's options
PostProcess = Callable[[GroupBucket, Group, Tensor, int, float], None]


@dataclass
class Engine:
    """The parts of an optimiser's exchange, and the steps that several schedules take with them.

    Attributes:
        wire: the workers; the communication thread alone uses it.
        thread: the communication thread.
        times: where the seconds of this worker's exchanges went.
        post_process: see ``ExchangedOptimizer``.
        agreed: what any of the ranks that share the parameters has found.
        facts: what all workers must go by in a step (``given.facts_now``), as it is now.
        admit: begins to exchange what was frozen before and is not any more, and returns whether
            there was any; called where all workers have stated the same facts.
        clip_norm: the most that the norm of a step's mean gradient may be; None: any.
        measure: whether steps report residual ratios.
        buckets: of all parameters, in the order in which they leave.
        number_of: for each parameter the index of its bucket.
        name_of: for each parameter its name.
    """

    wire: Wire
    thread: Fifo
    times: Timeline
    post_process: PostProcess
    agreed: Callable[[Culprit | None], Culprit | None]
    facts: Callable[[], dict[str, Any]]
    admit: Callable[[], bool]
    clip_norm: float | None = None
    measure: bool = False
    buckets: list[GroupBucket] = field(default_factory=list)
    number_of: dict[Tensor, int] = field(default_factory=dict)
    name_of: dict[Tensor, str] = field(default_factory=dict)

    def add(self, bucket: GroupBucket) -> None:
        """Add a bucket behind the others."""
        self.number_of.update((parameter, len(self.buckets)) for parameter in bucket.parameters)
        self.name_of.update(zip(bucket.parameters, bucket.names, strict=True))
        bucket.exchange.measure = self.measure
        self.buckets.append(bucket)

    def set_measure(self, wanted: bool) -> None:
        """Have the next steps report residual ratios, or not."""
        self.measure = wanted
        for bucket in self.buckets:
            bucket.exchange.measure = wanted

    def run(self, job: Callable[[], T]) -> T:
        """Run a job on the communication thread and wait for it."""
        return self.thread.submit(job).result()

    @torch.no_grad()
    def own_update(
        self, bucket: GroupBucket, group: Group, samples: float, spans: list[Span] | None
    ) -> None:
        """Between the stages: the sum in this owner's stripe -> the update, in its place.

        Args:
            bucket: what its sub-gradient left behind is kept from here on.
            group: the options that count.
            samples: in the minibatch, over all workers.
            spans: receives when it was done.
        """
        bucket.commit_local()
        with span("post-process", spans):
            update, start = bucket.exchange.take_sum()
            self.update(bucket, group, update.div_(samples), start, samples)
            bucket.exchange.leave_idle()

    @torch.no_grad()
    def clip(self, samples: float, gather: Callable[[Tensor], list[Tensor]]) -> float | None:
        """Between the stages: shorten the mean gradient to ``clip_norm``, as torch would.

        Args:
            samples: in the minibatch, over all workers.
            gather: returns every worker's tensor of one number, in rank order.

        Returns:
            The norm that it had, the same on every worker; None unless gradients are clipped.
        """
        if self.clip_norm is None:
            return None
        sums = [bucket.exchange.sum for bucket in self.buckets]
        norm = math.sqrt(float(torch.stack(gather(sum_of_squares(sums))).sum())) / samples
        self.shorten(sums, norm)
        return norm

    def shorten(self, gradients: Sequence[Tensor], norm: float) -> None:
        """Scale gradients of this norm, in place, so that it is at most ``clip_norm``."""
        if self.clip_norm is not None and (factor := self.clip_norm / (norm + _EPS)) < 1:
            torch._foreach_mul_(list(gradients), factor)

    def update(
        self, bucket: GroupBucket, group: Group, gradient: Tensor, start: int, samples: float
    ) -> None:
        """Post-process a run of values, and leave alone what belongs to idle parameters.

        Args:
            bucket: whose ``exchange.idle`` counts; their gradient becomes zero.
            group: the options that count.
            gradient: see ``ExchangedOptimizer.post_process``.
            start: see there.
            samples: see there.
        """
        idle = bucket.exchange.idle
        runs = bucket.owned_runs(start, start + len(gradient))
        left_alone = [run for run, alone in zip(runs, idle, strict=True) if alone]
        before = {
            name: [kept[run].clone() for run in left_alone] for name, kept in bucket.state.items()
        }
        self.post_process(bucket, group, gradient, start, samples)
        for run in left_alone:
            gradient[run].zero_()
        for name, kept in bucket.state.items():
            for i, run in enumerate(left_alone):
                kept[run] = before[name][i] if name in before else 0

    def residual_ratio(self) -> tuple[float, float] | None:
        """|residual| / |input| of stage 1 and of stage 2 on this worker, the largest over buckets.

        None unless ``measure`` is set.
        """
        if not self.measure:
            return None
        stages = [bucket.exchange.stages for bucket in self.buckets]
        return max(s.worker.ratio() for s in stages), max(s.owner.ratio() for s in stages)

    def findings(self) -> list[str]:
        """Return all that a step may find amiss: a parameter, or why gradients are withdrawn."""
        return [*self.names(), *reasons(self.names())]

    def names(self) -> list[str]:
        """Return the names of all parameters, bucket by bucket."""
        return [name for bucket in self.buckets for name in bucket.names]


def sum_of_squares(values: Sequence[Tensor]) -> Tensor:
    """Return the sum of squares of all values, as a float64 tensor of one number in CPU memory."""
    norms = [torch.linalg.vector_norm(v, dtype=torch.float64) for v in values]
    return torch.stack(norms).square().sum().reshape(1).cpu()


class NoSamplesError(ValueError):
    """No worker had a sample."""


def joint_verdict(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict on a step.

    Raises:
        NoSamplesError: on every worker, if no worker had a sample.
    """
    verdict = joint(verdicts) if verdicts else Verdict(0.0)
    if verdict.finite and not verdict.withdrawn and verdict.samples <= 0:
        raise NoSamplesError("samples: expected at least one in some worker's minibatch, got 0")
    return verdict
