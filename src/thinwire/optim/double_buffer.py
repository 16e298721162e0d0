"""Half-batch double buffering (S section 2.2): an exchange that goes on while the next is computed.

With half-minibatches h = 0, 1, 2, ... and theta_h the model whose gradient half h computes,

    g_h         = gradient of half h at theta_h
    u_h         = U(g_h)                      both stages, post-processing at the owners included
    theta_{h+1} = theta_h - u_{h-1}           with u_{-1} = 0

so the update of half h - 1 lands before half h + 1 begins, and half h is computed on a model that
lacks it: one that is a half-minibatch old.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from thinwire.exchange import Fifo, Span, Timeline, Wire, span
from thinwire.optim.bucket import Bucket
from thinwire.optim.progress import StepReport
from thinwire.optim.stages import Group, PostProcess, UpdateError, both_stages


class DoubleBuffer:
    """The one exchange that may be in flight, and what is known of it once it has arrived.

    Arrived, its update is in the buckets' ``pending``; landed, it is in the parameters. What an
    exchange has sent is entered in the ledger when it is waited for, so that accounts do not depend
    on how fast the wire is.

    Args:
        thread: the communication thread.
        wire: which that thread alone uses.
    """

    def __init__(self, thread: Fifo, wire: Wire) -> None:
        self._thread, self._wire, self._flying = thread, wire, wire.apart()
        self._future: Future[StepReport] | None = None
        self._arrived: StepReport | None = None
        self._spans: list[Span] = []

    def launch(
        self,
        buckets: Sequence[Bucket],
        samples: float,
        post_process: PostProcess,
        times: Timeline,
        *,
        measure: bool,
    ) -> None:
        """Begin the exchange of the gradients; the one before must have landed.

        Whatever the exchange reads is copied, or nobody changes it before it lands.

        Args:
            buckets: of all parameters.
            samples: in this worker's half.
            post_process: see ``ExchangedOptimizer``.
            times: of the calling thread.
            measure: have the report hold residual ratios.
        """
        for bucket in buckets:
            with span("sub-gradient", times.own):
                bucket.collect_gradients()
        groups = [_options_now(bucket.group) for bucket in buckets]
        self._flying = self._wire.apart()
        exchange = partial(
            both_stages, list(buckets), groups, samples, post_process, self._flying, measure=measure
        )
        self._future = self._thread.submit(exchange)

    def land(self, buckets: Sequence[Bucket], times: Timeline) -> StepReport | None:
        """Wait for the exchange and apply its update.

        Returns:
            Its report; None if there was none.

        Raises:
            FloatingPointError: on every worker, if its update is not finite.
        """
        with times.waiting():
            self._wait()
        report, self._arrived = self._arrived, None
        if report is not None and report.nonfinite is None:
            for bucket in buckets:
                with span("apply", times.own), torch.no_grad():
                    bucket.apply(bucket.receive())
        return report

    def take_spans(self) -> list[Span]:
        """What the exchanges that have arrived did when."""
        spans, self._spans = self._spans, []
        return spans

    def counts(self) -> dict[str, Any] | None:
        """Wait for the exchange; what is known of it, the same on every worker."""
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
        finally:
            self._account()
        self._arrived, self._future = arrived, None

    def _account(self) -> None:
        """Enter what the exchange in flight has sent and when it did what, once."""
        for stage, traffic in self._flying.ledger.stages.items():
            self._wire.ledger.add(stage, traffic)
        self._spans += self._flying.spans or []
        self._flying = self._wire.apart()


def show_pending(buckets: Sequence[Bucket], counts: dict[str, Any] | None) -> None:
    """Have every bucket hold a ``pending``, all zeros unless there is an update to apply."""
    for bucket in buckets:
        pending = bucket.receive()
        if counts is None or counts["nonfinite"] is not None:
            pending.zero_()


def _options_now(group: Group) -> Group:
    """A param group's options as they are, tensors too, whatever a scheduler does to them later."""
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in group.items()
        if name != "params"
    }
