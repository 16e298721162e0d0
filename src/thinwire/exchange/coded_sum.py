"""Sums of flat vectors over workers by a code: the two-stage exchange without post-processing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from thinwire.exchange.bucket import ParameterBucket
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
        error_feedback: the part of the quantisation error that the next call carries.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        codes: StageCodes,
        wire: Wire,
        *,
        error_feedback: bool | float,
    ) -> None:
        self._wire = wire
        named = [(f"parameter {i}", parameter) for i, parameter in enumerate(parameters)]
        self._bucket = ParameterBucket(
            named, codes, wire, axis="output", error_feedback=error_feedback
        )

    def __call__(self, vector: Tensor, stage: str) -> Tensor:
        """Return the sum, [P], the same on every worker; NaN if any summand is not finite."""
        self._bucket.drop()  # what a sum left that was not kept
        out = torch.empty_like(vector)
        if not self._bucket.reduce(self._wire, 1.0, stage, gradient=vector).finite:
            self._bucket.drop()
            return out.fill_(torch.nan)
        self._bucket.distribute(self._wire, out, stage)
        return out

    def keep(self) -> None:
        """Keep the residuals of the last sum."""
        self._bucket.commit()

    def state(self) -> list[dict[str, Any]]:
        """Return what this worker carries, an entry for each parameter; see ``exchange.state``."""
        return self._bucket.state()
