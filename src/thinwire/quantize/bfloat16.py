"""Half the bits: values rounded to bfloat16, whose range is float32's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.quantize.code import decode_divided, decode_in_turn, first_true
from thinwire.quantize.columns import Columns


class Bfloat16Code:
    """16 bits a value; the residual is what rounding to 8 significant bits left."""

    name = "bfloat16"

    def payload_bytes(self, columns: Columns) -> int:
        """Two bytes a value, to whole words of four."""
        return (2 * columns.values + 3) // 4 * 4

    def encode(
        self,
        gradient: Tensor,
        scale: float,
        residual: Tensor,
        columns: Columns,
        new_residual: Tensor,
        payload: Tensor,
    ) -> None:
        """See ``Code.encode``."""
        wanted = gradient.float() * scale + residual
        sent = wanted.to(torch.bfloat16)
        payload[2 * columns.values :] = 0
        payload[: 2 * columns.values].view(torch.bfloat16).copy_(sent)
        torch.sub(wanted, sent, out=new_residual)

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
        values = payload[: 2 * columns.values].view(torch.bfloat16)
        if accumulate:
            out.add_(values)
        else:
            out.copy_(values)

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        decode_in_turn(self, payloads, columns, out)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """See ``Code.nonfinite_group``."""
        values = payload[: 2 * columns.values].view(torch.bfloat16)
        value = first_true(~values.isfinite())
        return -1 if value < 0 else columns.group_of(value)
