"""Half-batch double buffering [Seide 2014, section 2.2]: an exchange beside the next computation.

With half-minibatches h = 0, 1, 2, ... and theta_h the model whose gradient half h computes,

    g_h         = gradient of half h at theta_h
    u_h         = U(g_h)                      both stages, post-processing at the owners included
    theta_{h+1} = theta_h - u_{h-1}           with u_{-1} = 0

so the update of half h - 1 lands before half h + 1 begins, and half h is computed on a model that
lacks it: one that is a half-minibatch old.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from thinwire.exchange import (
    DifferentWorkersError,
    Remarks,
    Span,
    UpdateError,
    Wire,
    check_alike,
    digest_of,
    span,
)
from thinwire.optim.engine import CLIPPING, Engine, Group, NoSamplesError, joint_verdict
from thinwire.optim.given import UNFROZEN
from thinwire.optim.group_bucket import GroupBucket
from thinwire.optim.progress import STEADY, StepReport


class DoubleBuffered:
    """The exchange of one step goes on while the next one's gradients are computed.

    At most one exchange is in flight. When it has arrived, its update waits in the buckets'
    ``pending`` until ``land`` applies it to the parameters. What an exchange has sent is entered in
    the ledger when it is waited for, so that accounts do not depend on how fast the wire is.

    Args:
        engine: of the optimiser.
    """

    phase, begun = STEADY, False

    def __init__(self, engine: Engine) -> None:
        self._engine, self._flying = engine, engine.wire.apart()
        self._future: Future[StepReport] | None = None
        self._arrived: StepReport | None = None
        self._spans: list[Span] = []

    def gradient_ready(self, parameter: Tensor, samples: float) -> None:
        """Do nothing: gradients leave together, in ``step``."""

    def step(self, samples: float) -> None:
        """Begin the exchange of the gradients; the one before must have landed.

        Whatever the exchange reads is copied here, or nobody changes it before it lands. Where
        something was unfrozen, a first exchange makes sure that all workers say so; it is dropped.
        """
        engine, facts = self._engine, self._engine.facts()
        if facts[UNFROZEN]:
            self._begin(samples, facts, keep=False)
            self._wait()
            self._arrived = None
            engine.admit()
            facts = engine.facts()
        self._begin(samples, facts)

    def _begin(self, samples: float, facts: dict[str, Any], *, keep: bool = True) -> None:
        engine = self._engine
        for bucket in engine.buckets:
            with span("sub-gradient", engine.times.own):
                bucket.collect_gradients()
                bucket.hold_own()
        groups = [_options_now(bucket.group) for bucket in engine.buckets]
        self._flying = engine.wire.apart()
        exchange = partial(_both_stages, engine, groups, facts, samples, self._flying, keep=keep)
        self._future = engine.thread.submit(exchange)

    def land(self) -> StepReport | None:
        """Wait for what an earlier ``step`` left in flight, and apply it.

        Returns:
            What that step did; None if nothing was in flight.

        Raises:
            FloatingPointError: on every worker, if the update is not finite.
            DifferentWorkersError: on every worker, if they went by different options.
        """
        times = self._engine.times
        with times.waiting():
            self._wait()
        report, self._arrived = self._arrived, None
        if report is not None and report.nonfinite is None:
            for bucket in self._engine.buckets:
                with span("apply", times.own), torch.no_grad():
                    bucket.exchange.subtract(bucket.receive())
        return report

    def discard(self) -> None:
        """Do nothing: no gradient has been sent."""

    def end(self) -> None:
        """There is nothing to hand over: what is in flight lands in the next step."""

    def take_spans(self) -> list[Span]:
        """Return when the exchanges that have arrived did what, once."""
        spans, self._spans = self._spans, []
        return spans

    def counts(self) -> dict[str, Any] | None:
        """Wait for the exchange; return what is known of it, the same on every worker."""
        self._wait()
        if self._arrived is None:
            return None
        return asdict(replace(self._arrived, residual_ratio=None))

    def load(self, counts: dict[str, Any] | None) -> None:
        """Continue from ``counts``; an exchange in flight is waited for and forgotten."""
        with suppress(UpdateError):
            self._wait()
        self._arrived = self._future = None
        if counts is not None:
            culprit = tuple(counts["nonfinite"]) if counts["nonfinite"] else None
            self._arrived = StepReport(**{**counts, "nonfinite": culprit})

    def _wait(self) -> None:
        if self._future is None:
            return
        try:
            arrived = self._future.result()
        except (DifferentWorkersError, NoSamplesError):
            self._future = None  # nothing of it was kept, and training may go on
            raise
        finally:
            self._account()
        self._arrived, self._future = arrived, None

    def _account(self) -> None:
        """Enter what the exchange in flight has sent and when it did what, once."""
        for stage, traffic in self._flying.ledger.stages.items():
            self._engine.wire.ledger.add(stage, traffic)
        self._spans += self._flying.spans or []
        self._flying = self._engine.wire.apart()


def show_pending(buckets: Sequence[GroupBucket], counts: dict[str, Any] | None) -> None:
    """Have every bucket hold a ``pending``, all zeros unless there is an update to apply."""
    for bucket in buckets:
        pending = bucket.receive()
        if counts is None or counts["nonfinite"] is not None:
            pending.zero_()


@torch.no_grad()
def _both_stages(
    engine: Engine,
    groups: Sequence[Group],
    facts: Mapping[str, Any],
    samples: float,
    wire: Wire,
    *,
    keep: bool,
) -> StepReport:
    """A whole exchange of sub-gradients that have been collected -> the buckets' ``pending``.

    Args:
        engine: of the optimiser.
        groups: the options that count, for each bucket; nobody may change them meanwhile.
        facts: what this worker goes by.
        samples: in this worker's minibatch.
        wire: the workers.
        keep: go on once all workers have stated the same; else drop everything then.
    """
    exchanges = [bucket.exchange for bucket in engine.buckets]
    try:
        remarks = Remarks(stated=digest_of(facts))
        verdict = joint_verdict([e.reduce(wire, samples, remarks=remarks) for e in exchanges])
        report = StepReport(STEADY, verdict.samples, verdict.nonfinite)
        if not (keep and verdict.alike and verdict.finite):
            for exchange in exchanges:
                exchange.drop()
            if not verdict.alike:
                check_alike(facts, wire, "step")
            return report
        norm = engine.clip(verdict.samples, lambda number: wire.all_gather(number, CLIPPING))
        for bucket, group in zip(engine.buckets, groups, strict=True):
            engine.own_update(bucket, group, verdict.samples, wire.spans)
            bucket.exchange.distribute(wire, bucket.receive())
            bucket.exchange.commit()
        return replace(report, residual_ratio=engine.residual_ratio(), gradient_norm=norm)
    except NoSamplesError:
        for exchange in exchanges:
            exchange.drop()
        raise
    finally:
        for bucket in engine.buckets:
            bucket.held = None


def _options_now(group: Group) -> Group:
    """A param group's options as they are, tensors too, whatever a scheduler does to them later."""
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in group.items()
        if name != "params"
    }
