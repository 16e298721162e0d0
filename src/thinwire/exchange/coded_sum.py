"""Sums of flat vectors over workers by a code: the two-stage exchange without post-processing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.exchange.two_stage import TwoStage
from thinwire.exchange.wire import Wire
from thinwire.quantize import FlatSpace, StageCodes


class CodedSum:
    """The sum over workers of a flat vector, sent with few bits a value: two collectives.

    With error feedback, what was asked of the sums equals what they gave plus the residuals, over
    all calls that were committed. A sum that is not committed leaves no trace.

    Args:
        shapes: of the tensors that are end to end in the vector; they give the columns.
        codes: of both stages.
        wire: the workers.
        error_feedback: carry the quantisation error into the next call.
    """

    def __init__(
        self,
        shapes: Sequence[torch.Size],
        codes: StageCodes,
        wire: Wire,
        *,
        error_feedback: bool,
    ) -> None:
        self._codes, self._wire = codes, wire
        columns = FlatSpace(shapes).columns
        self.exchange = TwoStage(columns, wire.rank, wire.world, error_feedback=error_feedback)

    def __call__(self, vector: Tensor, stage: str) -> Tensor:
        """The sum, [P], the same on every worker; NaN throughout if any summand is not finite."""
        exchange, codes = self.exchange, self._codes
        exchange.worker.values.copy_(vector)
        headers = exchange.reduce(codes.gradients, 1.0, self._wire, stage)
        out = torch.empty_like(exchange.worker.values)
        if any(header.nonfinite_group >= 0 for header in headers):
            return out.fill_(torch.nan).to(vector)
        packet = exchange.requantise(codes.updates)
        exchange.distribute(codes.updates, packet, out, self._wire, stage)
        return out.to(vector)

    def commit(self) -> None:
        """Keep the residuals of the last sum."""
        self.exchange.worker.commit()
        self.exchange.owner.commit()
