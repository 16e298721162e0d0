"""Sums of flat vectors over workers by a code: the two-stage exchange without post-processing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange.part import Part
from thinwire.exchange.wire import Wire
from thinwire.quantize import StageCodes


class CodedSum:
    """The sum over workers of a flat vector, sent with few bits a value: two collectives.

    With error feedback, what was to be summed equals the sums plus the residuals, over all calls
    that were kept. A sum that is not kept leaves no trace.

    Args:
        parameters: float32; the vector is laid out as they are, end to end.
        codes: of both stages.
        wire: the workers.
        error_feedback: carry the quantisation error into the next call.

    Attributes:
        part: the exchange, and what this worker carries.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        codes: StageCodes,
        wire: Wire,
        *,
        error_feedback: bool,
    ) -> None:
        self._wire = wire
        self.part = Part(
            parameters,
            codes,
            axis="output",
            rank=wire.rank,
            world=wire.world,
            error_feedback=error_feedback,
        )

    def __call__(self, vector: Tensor, stage: str) -> Tensor:
        """The sum, [P], the same on every worker; NaN throughout if any summand is not finite."""
        exchange, codes = self.part.exchange, self.part.codes
        headers = exchange.reduce(codes.gradients, 1.0, self._wire, stage, vector)
        out = torch.empty_like(vector)
        if any(header.nonfinite_group >= 0 for header in headers):
            return out.fill_(torch.nan)
        exchange.distribute(codes.updates, out, self._wire, stage)
        return out

    def keep(self) -> None:
        """Keep the residuals of the last sum."""
        self.part.finish(keep=True)

    def state(self) -> list[dict[str, Any]]:
        """What this worker carries, one entry for each parameter; see ``exchange.state``."""
        entries = self.part.state()
        return [entries[parameter] for parameter in self.part.parameters]
