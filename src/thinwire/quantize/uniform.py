"""A few bits a value, evenly spaced: the knob between the 1-bit codes and float32.

The error of a value is at most half a step, (hi - lo) / (2^b - 1) / 2, apart from rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from thinwire.kernels.schemas import UNIFORM_BITS
from thinwire.quantize.code import decode_divided, first_true
from thinwire.quantize.columns import Columns


class UniformCode:
    """``bits`` bits a value between the extremes of its group (``kernels.reference.uniform``).

    Args:
        bits: 2, 4 or 8.
    """

    def __init__(self, bits: int) -> None:
        if bits not in UNIFORM_BITS:
            raise ValueError(f"bits: expected one of {UNIFORM_BITS}, got {bits}")
        self.name = f"{bits}-bit"
        self.bits = bits

    def payload_bytes(self, columns: Columns) -> int:
        """Two bfloat16 levels for each group, then whole words of values."""
        return 4 * columns.groups + 4 * int(columns.packed_table(self.bits)[1, -1])

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
        levels, packed = self._split(payload, columns)
        layout = columns.packed_table(self.bits)
        torch.ops.thinwire.uniform_encode(
            gradient, scale, residual, layout, self.bits, new_residual, levels, packed
        )

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
        levels, packed = self._split(payload, columns)
        layout = columns.packed_table(self.bits)
        torch.ops.thinwire.uniform_decode(levels, packed, layout, self.bits, out, accumulate)

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        parts = [self._split(payload, columns) for payload in payloads]
        levels, bits = [part[0] for part in parts], [part[1] for part in parts]
        torch.ops.thinwire.uniform_sum(
            levels, bits, columns.packed_table(self.bits), self.bits, out
        )

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """The first group whose extremes are not finite."""
        levels, _ = self._split(payload, columns)
        return first_true(~levels.isfinite().all(dim=1))

    def _split(self, payload: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        cut = 4 * columns.groups
        return payload[:cut].view(torch.bfloat16).view(-1, 2), payload[cut:]
