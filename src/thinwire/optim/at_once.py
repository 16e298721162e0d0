"""The ordinary schedule: gradients leave during backward, and ``step`` applies their update."""

from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from thinwire.exchange import Culprit, UpdateError, Verdict, span
from thinwire.optim.engine import Engine, joint_verdict
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.progress import StepReport
from thinwire.quantize import StageCodes


class AtOnce:
    """Every step ends with the update of its own gradients; see ``Schedule``.

    Stage 1 of a bucket runs on the communication thread as soon as backward has completed its
    gradients and those of the buckets before it. ``step`` does the rest; stage 2 of one bucket is
    on the wire while the next one is post-processed.

    Args:
        engine: of the optimiser.
        phase: what reports call it.
        codes: the codes of a start; None: the buckets' own.
    """

    def __init__(self, engine: Engine, phase: str, codes: StageCodes | None = None) -> None:
        self.phase = phase
        self._engine, self._codes = engine, codes
        self._launched: list[Future[Verdict]] = []

    def gradient_ready(self, parameter: Tensor, samples: float) -> None:
        """Launch the next buckets as far as they are complete.

        Raises:
            RuntimeError: the parameter's bucket has been sent already.
        """
        buckets = self._engine.buckets
        number = self._engine.number_of[parameter]
        if number < len(self._launched):
            raise RuntimeError(
                "a second backward before step(): its bucket has been sent. Wrap all but the last "
                "backward of a step in `with optimizer.no_sync():`"
            )
        buckets[number].waiting.discard(parameter)
        while len(self._launched) < len(buckets) and not buckets[len(self._launched)].waiting:
            self._launch_next(samples)

    def step(self, samples: float) -> StepReport:
        """See ``Schedule``."""
        engine = self._engine
        while len(self._launched) < len(engine.buckets):
            self._launch_next(samples)  # parameters without gradient count as zero
        try:
            with engine.times.waiting():
                verdicts = [future.result() for future in self._launched]
        finally:
            self._launched = []
            for bucket in engine.buckets:
                bucket.waiting = set(bucket.parameters)
        verdict = joint_verdict(verdicts)
        report = StepReport(self.phase, verdict.samples, engine.agreed(verdict.nonfinite))
        if report.nonfinite is not None:
            for bucket in engine.buckets:
                bucket.exchange.drop()
            return report
        self._distribute(report.samples)
        return replace(report, residual_ratio=engine.residual_ratio())

    def end(self) -> None:
        """There is nothing to hand over: all workers hold the same."""

    def _launch_next(self, samples: float) -> None:
        job = partial(self._reduce, self._engine.buckets[len(self._launched)], samples)
        self._launched.append(self._engine.thread.submit(job))

    @torch.no_grad()
    def _reduce(self, bucket: GroupBucket, samples: float) -> Verdict:
        """Stage 1 of one bucket, on the communication thread."""
        wire = self._engine.wire
        with span("sub-gradient", wire.spans):
            bucket.collect_gradients()
        return bucket.exchange.reduce(wire, samples, codes=self._codes)

    def _distribute(self, samples: float) -> None:
        """Post-process and stage 2, each bucket's on the wire while the next is computed."""
        engine, pending = self._engine, list[Future[Tensor]]()
        own = engine.times.own
        for bucket in engine.buckets:
            engine.own_update(bucket, bucket.group, samples, own)
            job = partial(bucket.exchange.distribute, engine.wire, codes=self._codes)
            pending.append(engine.thread.submit(job))
        overflow: Culprit | None = None
        for bucket, future in zip(engine.buckets, pending, strict=True):
            try:
                with engine.times.waiting():
                    update = future.result()
            except UpdateError as error:
                overflow = error.culprit
                break
            with span("apply", own):
                bucket.exchange.commit()
                bucket.exchange.subtract(update)
        overflow = engine.agreed(overflow)
        if overflow is not None:
            raise UpdateError(overflow)
