"""Floating-point codes: float32, every other code's dense twin, and bfloat16, half its bits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.quantize.code import all_finite, decode_divided, decode_in_turn, first_true
from thinwire.quantize.columns import Columns


class Float32Code:
    """The exact twin: 32 bits a value, nothing left behind."""

    name = "float32"
    _dtype = torch.float32

    def payload_bytes(self, columns: Columns) -> int:
        """The values' bytes, to whole words of four."""
        return (self._dtype.itemsize * columns.values + 3) // 4 * 4

    def encode(
        self,
        gradient: Tensor,
        scale: float,
        residual: Tensor,
        columns: Columns,
        new_residual: Tensor,
        payload: Tensor,
    ) -> None:
        """See ``Code.encode``; it also sends whatever an earlier code left in the residual."""
        torch.mul(gradient.float(), scale, out=self._values(payload, columns)).add_(residual)
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
        elif accumulate:
            out.add_(self._values(payload, columns))
        else:
            out.copy_(self._values(payload, columns))

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        decode_in_turn(self, payloads, columns, out)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """See ``Code.nonfinite_group``."""
        values = self._values(payload, columns)
        if all_finite(values):
            return -1
        return columns.group_of(first_true(~values.isfinite()))

    def _values(self, payload: Tensor, columns: Columns) -> Tensor:
        return payload[: self._dtype.itemsize * columns.values].view(self._dtype)


class Bfloat16Code(Float32Code):
    """16 bits a value, of float32's range; the residual is what rounding to 8 bits left."""

    name = "bfloat16"
    _dtype = torch.bfloat16

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
        payload[self._dtype.itemsize * columns.values :] = 0
        sent = self._values(payload, columns).copy_(wanted)
        torch.sub(wanted, sent, out=new_residual)
