"""The dense twin: the same exchange with exact values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.quantize.code import decode_divided, decode_in_turn, first_true
from thinwire.quantize.columns import Columns


class Float32Code:
    """The exact twin: 32 bits a value, nothing left behind."""

    name = "float32"

    def payload_bytes(self, columns: Columns) -> int:
        """Four bytes a value."""
        return 4 * columns.values

    def encode(
        self,
        gradient: Tensor,
        scale: float,
        residual: Tensor,
        columns: Columns,
        new_residual: Tensor,
        payload: Tensor,
    ) -> None:
        """See ``Code.encode``; also sends whatever an earlier code left in the residual."""
        payload.view(torch.float32).copy_(gradient.float() * scale + residual)
        new_residual.zero_()

    def decode(
        self,
        payload: Tensor,
        columns: Columns,
        out: Tensor,
        accumulate: bool,
        divisor: float = 1.0,
    ) -> None:
        """See ``Code.decode``."""
        if divisor != 1:
            decode_divided(self, payload, columns, out, accumulate, divisor)
            return
        values = payload.view(torch.float32)
        if accumulate:
            out.add_(values)
        else:
            out.copy_(values)

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        decode_in_turn(self, payloads, columns, out)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """See ``Code.nonfinite_group``."""
        value = first_true(~payload.view(torch.float32).isfinite())
        return -1 if value < 0 else columns.group_of(value)
