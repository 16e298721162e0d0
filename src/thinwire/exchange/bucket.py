"""A bucket: parameters that are exchanged together, and what one worker carries for them.

Every front end drives it in the same way:

    verdict = bucket.reduce(wire, samples)       # stage 1: this owner's sum, and what all said
    ... the owner turns its sum into the update, in ``bucket.sum`` ...
    bucket.distribute(wire, out)                 # stage 2: all owners' updates
    bucket.commit()  or  bucket.drop()           # keep the residuals, or leave them as they were

Buckets of one step are committed or dropped together, once the verdicts of all of them are known.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from thinwire.exchange.ownership import whole_stripes
from thinwire.exchange.packet import NO_REMARKS, Header, Remarks
from thinwire.exchange.shards import as_real, local
from thinwire.exchange.state import entries
from thinwire.exchange.stripes import Stripe
from thinwire.exchange.two_stage import NonFiniteUpdateError, TwoStage
from thinwire.exchange.verdict import UpdateError, Verdict
from thinwire.exchange.wire import Wire
from thinwire.kernels import warn_if_slow
from thinwire.quantize import Axis, Columns, ErrorFeedback, FlatSpace, StageCodes

_GLANCE = 64  # values looked at before a whole gradient is


class Layout(Protocol):
    """Where parameters lie in the bucket's flat buffer; ``FlatSpace`` is the usual one."""

    @property
    def columns(self) -> Columns:
        """The groups of all values."""
        ...

    def owner_of(self, value: int) -> int:
        """Return the index of the parameter that holds the value at this index."""
        ...


class Bucket:
    """The exchange of some parameters by one pair of codes.

    Args:
        names: of the parameters, for errors.
        layout: of their values.
        codes: how they travel.
        rank: this worker.
        world: the number of workers.
        error_feedback: the part of the residuals that is kept.
        device: where the buffers live.
        stripes: who owns what; by default the values are cut evenly.

    Attributes:
        stages: the arithmetic of both stages, and the residuals.
        measure: whether inputs are measured, for ``ErrorFeedback.ratio``.
    """

    def __init__(
        self,
        names: Sequence[str],
        layout: Layout,
        codes: StageCodes,
        rank: int,
        world: int,
        *,
        error_feedback: bool | float,
        device: torch.device,
        stripes: Sequence[Stripe] | None = None,
    ) -> None:
        warn_if_slow(device)
        self.names, self.codes, self._layout = list(names), codes, layout
        self.stages = TwoStage(
            layout.columns,
            rank,
            world,
            error_feedback=error_feedback,
            stripes=stripes,
            device=device,
        )
        self.measure = False
        self._encoded: dict[ErrorFeedback, None] = {}  # in order, since the last commit or drop

    @property
    def stripe(self) -> Stripe:
        """What this worker owns."""
        return self.stages.stripe

    @property
    def scratch(self) -> Tensor:
        """float32 ``[values]``: takes the sub-gradient; free from ``commit`` to the next one."""
        return self.stages.worker.values

    @property
    def sum(self) -> Tensor:
        """float32 ``[stripe.values]``: after ``reduce`` the sum over samples of what this owns."""
        return self.stages.owner.values

    def reduce(
        self,
        wire: Wire,
        samples: float,
        stage: str = "gradients",
        *,
        codes: StageCodes | None = None,
        gradient: Tensor | None = None,
        remarks: Remarks = NO_REMARKS,
    ) -> Verdict:
        """Stage 1: sub-gradient + residual -> one packet for each owner -> the owner's ``sum``.

        Args:
            wire: the workers.
            samples: how many the sub-gradient is the mean over; what travels is their sum.
            stage: where the ledger enters it.
            codes: where they are others than the bucket's, as in a start.
            gradient: ``[values]``, where it is not in ``scratch``, which then saves a copy.
            remarks: what this worker says beside its values.

        Raises:
            RuntimeError: a worker is at another exchange than this one.
        """
        if self.measure:
            self.stages.worker.note_input(samples)
        code = (codes or self.codes).gradients
        headers = self.stages.reduce(code, samples, wire, stage, gradient, remarks)
        self._encoded[self.stages.worker] = None
        reasons = [(worker, header.withdrawn) for worker, header in enumerate(headers)]
        return Verdict(
            sum(header.samples for header in headers),
            self._culprit(headers),
            tuple((worker, reason) for worker, reason in reasons if reason is not None),
            any(header.idle for header in headers),
            all(header.stated == headers[0].stated for header in headers),
        )

    def take_sum(self) -> tuple[Tensor, int]:
        """Keep what the sub-gradient left behind; return ``sum``, to be made the update in place.

        Returns:
            The sum, and the index of its first value in the bucket.
        """
        self.commit()
        return self.stages.owner.values, self.stages.stripe.start

    def distribute(
        self,
        wire: Wire,
        out: Tensor | None = None,
        stage: str = "updates",
        *,
        codes: StageCodes | None = None,
        divisor: float = 1.0,
    ) -> Tensor:
        """Stage 2: what the owner left in ``sum`` + residual -> all owners' values, everywhere.

        Args:
            wire: the workers.
            out: float32 ``[values]``, receives them; by default ``scratch``, for which the
                sub-gradient must have been committed.
            stage: where the ledger enters it.
            codes: see ``reduce``.
            divisor: what the decoded values are divided by.

        Returns:
            ``out``.

        Raises:
            UpdateError: on every worker, if an owner's values are not finite.
            RuntimeError: a worker is at another exchange than this one.
        """
        if self.measure:
            self.stages.owner.note_input()
        out = self.scratch if out is None else out
        try:
            self.stages.distribute((codes or self.codes).updates, out, wire, stage, divisor)
        except NonFiniteUpdateError as error:
            raise UpdateError((error.worker, self.name_of_group(error.group))) from None
        self._encoded[self.stages.owner] = None
        return out

    def commit(self) -> None:
        """Keep the residuals of what has been exchanged since the last commit or drop."""
        for feedback in self._encoded:
            feedback.commit()
        self._encoded = {}

    def drop(self) -> None:
        """Leave the residuals as they were before it."""
        for feedback in self._encoded:
            feedback.drop()
        self._encoded = {}

    def name_of_group(self, group: int) -> str:
        """Return the name of the parameter that a group of columns belongs to."""
        return self.names[self._layout.owner_of(self.stages.columns.offsets[group])]

    def _culprit(self, headers: Sequence[Header]) -> tuple[int, str] | None:
        for worker, header in enumerate(headers):
            if header.nonfinite_group >= 0:
                return worker, self.name_of_group(header.nonfinite_group)
        return None


class ParameterBucket(Bucket):
    """A bucket of parameters laid end to end, in wire order.

    Args:
        named: names and parameters; of a DTensor this worker's shard is what is exchanged, of
            complex values their real and imaginary parts, in a dimension of their own.
        codes: how they travel.
        wire: the workers.
        axis: which unit's weights share levels.
        error_feedback: the part of the residuals that is kept.
        owners: of each parameter, in ascending order, where workers own whole parameters.

    Attributes:
        parameters: in wire order.
        space: where they lie.
        whole: whether workers own whole parameters.
        idle: for each parameter whether no worker had a gradient in the last ``reduce``.
    """

    def __init__(
        self,
        named: Sequence[tuple[str, Tensor]],
        codes: StageCodes,
        wire: Wire,
        *,
        axis: Axis,
        error_feedback: bool | float,
        owners: Sequence[int] | None = None,
    ) -> None:
        self.parameters = [parameter for _, parameter in named]
        self.space = FlatSpace([shard.shape for shard in self.shards], axis)
        self.whole = owners is not None
        super().__init__(
            [name for name, _ in named],
            self.space,
            codes,
            wire.rank,
            wire.world,
            error_feedback=error_feedback,
            device=self.parameters[0].device,
            stripes=None if owners is None else whole_stripes(self.space, owners, wire.world),
        )
        self._missing = [False] * len(named)  # gradients that this worker lacks
        self.idle = [False] * len(named)

    @property
    def shards(self) -> list[Tensor]:
        """What this worker holds of each parameter, as real numbers, sharing its memory."""
        return [as_real(local(parameter)) for parameter in self.parameters]

    def collect(self, gradients: Sequence[Tensor | None]) -> None:
        """Copy a gradient for each parameter to ``scratch``.

        None is a gradient that this worker lacks. It sends nothing for the parameter then, and what
        it carries for it waits. Where no worker has one, the parameter is ``idle``.
        """
        found = [None if gradient is None else as_real(local(gradient)) for gradient in gradients]
        self._missing = [gradient is None for gradient in found]
        self.space.collect(found, self.stages.worker.values)

    def reduce(
        self,
        wire: Wire,
        samples: float,
        stage: str = "gradients",
        *,
        codes: StageCodes | None = None,
        gradient: Tensor | None = None,
        remarks: Remarks = NO_REMARKS,
    ) -> Verdict:
        """See ``Bucket``; workers that lack gradients tell each other which, a bit for each."""
        for missing, (start, stop) in zip(self._missing, self.space.ranges, strict=True):
            if missing:
                self.stages.worker.hold(slice(start, stop))
        remarks = replace(remarks, idle=any(self._missing))
        verdict = super().reduce(
            wire, samples, stage, codes=codes, gradient=gradient, remarks=remarks
        )
        self.idle = self._idle_everywhere(wire) if verdict.idle else [False] * len(self._missing)
        return verdict

    def reduce_alone(self) -> None:
        """Take what ``collect`` was given for all there is, as worker 0 of a serial start does."""
        self.idle = list(self._missing)

    def leave_idle(self) -> None:
        """Between the stages: no update for idle parameters, and what their owners carry waits."""
        for run in self.idle_owned():
            self.sum[run].zero_()
            self.stages.owner.hold(run)

    def idle_owned(self) -> list[slice]:
        """Return the runs of ``sum`` that belong to idle parameters."""
        stripe = self.stripe
        return [
            slice(at + first, at + last)
            for i, first, last in self.space.overlaps(stripe.start, stripe.stop)
            for at in [self.space.ranges[i][0] - stripe.start]
            if self.idle[i]
        ]

    def _idle_everywhere(self, wire: Wire) -> list[bool]:
        bits = torch.tensor(self._missing, dtype=torch.uint8, device="cpu")
        packed = torch.nn.functional.pad(bits, (0, -len(bits) % 8)).view(-1, 8)
        weights = 2 ** torch.arange(8, dtype=torch.uint8, device="cpu")
        everyone = torch.stack(
            wire.all_gather((packed * weights).sum(1, dtype=torch.uint8), "idle")
        )
        found = (everyone[:, :, None] & weights) != 0
        return [bool(missing) for missing in found.all(0).view(-1)[: len(bits)]]

    def subtract(self, update: Tensor) -> None:
        """Subtract an update ([values]) from the parameters."""
        self.space.subtract(update, self.shards)

    def hold_idle(self, gradients: Sequence[Tensor]) -> None:
        """Before ``reduce``: hold the residuals of parameters whose gradient is zero throughout."""
        for gradient, (start, stop) in zip(gradients, self.space.ranges, strict=True):
            if not _any(gradient.reshape(-1)):
                self.stages.worker.hold(slice(start, stop))

    def hold_idle_owned(self) -> None:
        """Between the stages: the same for what no worker sent anything of."""
        for i, first, last in self.space.overlaps(self.stripe.start, self.stripe.stop):
            at = self.space.ranges[i][0] - self.stripe.start
            run = slice(at + first, at + last)
            if not _any(self.sum[run]):
                self.stages.owner.hold(run)

    def state(self) -> list[dict[str, Any]]:
        """Return what this worker carries for each parameter, as views; see ``exchange.state``."""
        worker, owner = self.stages.worker, self.stages.owner
        return entries(
            self.space,
            {"residual": worker.residual},
            {"owner_residual": owner.residual},
            (self.stripe.start, self.stripe.stop),
        )


def _any(flat: Tensor) -> bool:
    """Whether any value is other than zero; mostly a glance is enough."""
    return bool(flat[:_GLANCE].any()) or bool(flat.any())
