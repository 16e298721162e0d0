"""The ordinary schedule: gradients leave during backward, and ``step`` applies their update."""

from concurrent.futures import Future
from functools import partial

import torch
from torch import Tensor

from thinwire.exchange import (
    Culprit,
    Remarks,
    UpdateError,
    Verdict,
    check_alike,
    digest_of,
    span,
)
from thinwire.optim.copied import Copied
from thinwire.optim.engine import CLIPPING, Engine, NoSamplesError, joint_verdict
from thinwire.optim.progress import StepReport
from thinwire.optim.withdrawal import DISCARDED, RESTATED, WithdrawnError, changed, reasons
from thinwire.quantize import StageCodes


class AtOnce:
    """Every step ends with the update of its own gradients; see ``Schedule``.

    A bucket's gradients are copied by the hook that completes them, before backward goes on, and
    from then on nobody may change them. Stage 1 of a bucket runs on the communication thread as
    soon as it and those before it have been copied. ``step`` does the rest; stage 2 of one bucket
    is on the wire while the next one is post-processed. The last bucket always waits for ``step``
    or ``discard``: its header tells all workers whether what was sent before it counts.

    Args:
        engine: of the optimiser.
        phase: what reports call it.
        codes: the codes of a start; None: the buckets' own.

    Attributes:
        closely: steps in which gradients are looked at more closely for changes, since scripts do
            the same in every step (``Copied``).
    """

    def __init__(self, engine: Engine, phase: str, codes: StageCodes | None = None) -> None:
        self.phase, self.closely = phase, 10
        self._engine, self._codes = engine, codes
        self._copied: dict[int, Copied] = {}  # by the bucket's number, in this backward
        self._launched: list[Future[Verdict]] = []
        self._samples: float | None = None  # that the copied gradients are the mean over

    @property
    def begun(self) -> bool:
        """Whether gradients have been copied that no step has applied yet."""
        return bool(self._copied)

    def gradient_ready(self, parameter: Tensor, samples: float) -> None:
        """Copy a bucket that is complete, and launch the next ones as far as they are copied.

        Raises:
            RuntimeError: the parameter's bucket has been copied already.
        """
        buckets = self._engine.buckets
        number = self._engine.number_of[parameter]
        bucket = buckets[number]
        if number in self._copied:
            raise RuntimeError(
                "a second backward before step(): its bucket has been sent. Wrap all but the last "
                "backward of a step in `with optimizer.no_sync():`, or discard what has been sent "
                "by optimizer.zero_grad()"
            )
        bucket.waiting.discard(parameter)
        if bucket.waiting:
            return
        self._samples = samples if self._samples is None else self._samples
        self._copy(number)
        self._copied[number] = Copied(bucket.parameters, closely=self.closely > 0)
        while len(self._launched) in self._copied and len(self._launched) < len(buckets) - 1:
            self._launch_next(self._samples, Remarks())

    def step(self, samples: float) -> StepReport:
        """See ``Schedule``.

        Raises:
            WithdrawnError: on every worker, if one has changed a gradient that had been sent.
            DifferentWorkersError: on every worker, if they go by different options.
        """
        engine = self._engine
        verdict = self._end_stage_1(samples, self._objection(samples))
        self.closely -= 1
        culprit = verdict.nonfinite
        if verdict.withdrawn:
            worker, reason = verdict.withdrawn[0]
            culprit = worker, reasons(engine.names())[reason]
        culprit = engine.agreed(culprit)
        if culprit is None:
            norm = engine.clip(verdict.samples, self._gather)
            self._distribute(verdict.samples)
            ratio = engine.residual_ratio()
            return StepReport(self.phase, verdict.samples, residual_ratio=ratio, gradient_norm=norm)
        self._drop()
        worker, what = culprit
        if what not in engine.names():
            raise WithdrawnError(f"worker {worker}: {what}")
        return StepReport(self.phase, verdict.samples, culprit)

    def discard(self) -> None:
        """See ``Schedule``.

        Raises:
            WithdrawnError: another worker takes a step with what this one discards.
        """
        if not self._launched:
            self._forget()
            return
        verdict = self._end_stage_1(0.0, DISCARDED)
        self._drop()
        others = set(range(self._engine.wire.world)) - {worker for worker, _ in verdict.withdrawn}
        if others:
            why = reasons(())[DISCARDED]
            raise WithdrawnError(f"worker {self._engine.wire.rank}: {why}")

    def end(self) -> None:
        """There is nothing to hand over: all workers hold the same."""

    def _objection(self, samples: float) -> int | None:
        """Why what has been sent must not count, as far as this worker knows."""
        if self._samples not in (None, samples):
            return RESTATED
        for number, copied in sorted(self._copied.items()):
            parameter = copied.first_changed()
            if parameter is not None:
                bucket = self._engine.buckets[number]
                index = next(i for i, p in enumerate(bucket.parameters) if p is parameter)
                return changed(self._engine.names().index(bucket.names[index]))
        return None

    def _end_stage_1(self, samples: float, objection: int | None) -> Verdict:
        """Launch the buckets that are left and wait for all; then nothing is under way.

        Args:
            samples: in this worker's minibatch.
            objection: what the last ones' headers say; their values do not count then.
        """
        engine = self._engine
        facts = engine.facts()
        try:
            verdict = self._end_launched(samples, objection, digest_of(facts))
            if not verdict.withdrawn:
                if not verdict.alike:
                    self._drop()
                    engine.run(partial(check_alike, facts, engine.wire, "step"))
                if engine.admit():
                    verdict = self._end_launched(samples, objection, digest_of(engine.facts()))
        except NoSamplesError:
            self._drop()
            raise
        finally:
            self._forget()
        return verdict

    def _end_launched(self, samples: float, objection: int | None, stated: int) -> Verdict:
        """Launch the buckets that are left, the last with what this worker states; wait for all."""
        engine = self._engine
        while (number := len(self._launched)) < len(engine.buckets):
            if number not in self._copied and objection is None:
                self._copy(number)  # parameters without gradient count as zero
            last = number == len(engine.buckets) - 1
            self._launch_next(samples, Remarks(objection, stated=stated if last else 0))
        with engine.times.waiting():
            return joint_verdict([future.result() for future in self._launched])

    def _gather(self, number: Tensor) -> list[Tensor]:
        wire = self._engine.wire
        return self._engine.run(lambda: wire.all_gather(number, CLIPPING))

    def _forget(self) -> None:
        self._copied, self._launched, self._samples = {}, [], None
        for bucket in self._engine.buckets:
            bucket.waiting = set(bucket.parameters)

    def _drop(self) -> None:
        for bucket in self._engine.buckets:
            bucket.exchange.drop()

    @torch.no_grad()
    def _copy(self, number: int) -> None:
        with span("sub-gradient", self._engine.times.own):
            self._engine.buckets[number].collect_gradients()

    def _launch_next(self, samples: float, remarks: Remarks) -> None:
        engine = self._engine
        exchange = engine.buckets[len(self._launched)].exchange
        reduce = torch.no_grad()(exchange.reduce)
        job = partial(reduce, engine.wire, samples, codes=self._codes, remarks=remarks)
        self._launched.append(engine.thread.submit(job))

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
