"""Floating-point codes: float32, every other code's dense twin, and bfloat16, half its bits."""

import torch
from torch import Tensor

from thinwire.quantize.code import CodeDefaults
from thinwire.quantize.columns import Columns


class Float32Code(CodeDefaults):
    """The exact twin: 32 bits a value, nothing left behind."""

    name = "float32"
    _dtype = torch.float32

    def payload_bytes(self, columns: Columns) -> int:
        """Return the values' bytes, to whole words of four."""
        return (self._dtype.itemsize * columns.values + 3) // 4 * 4

    def quantise(self, values: Tensor, columns: Columns, payload: Tensor) -> None:
        """See ``CodeDefaults.quantise``."""
        payload[self._dtype.itemsize * columns.values :] = 0
        self.reconstruct(payload, columns).copy_(values)

    def reconstruct(self, payload: Tensor, columns: Columns) -> Tensor:
        """Return a view of the payload."""
        return payload[: self._dtype.itemsize * columns.values].view(self._dtype)

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
        sent = self.reconstruct(payload, columns)
        torch.mul(gradient.float(), scale, out=sent).add_(residual)
        new_residual.zero_()


class Bfloat16Code(Float32Code):
    """16 bits a value, of float32's range; the residual is what rounding to 8 bits left."""

    name = "bfloat16"
    _dtype = torch.bfloat16
    encode = CodeDefaults.encode
