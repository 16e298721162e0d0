"""The 1-bit code of the paper (S section 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

import thinwire.kernels  # noqa: F401  (registers the operators)
from thinwire.quantize.code import first_true
from thinwire.quantize.columns import Columns


class SignCode:
    """One bit a value and two levels a group (S section 3): about 31 times smaller than float32.

    Args:
        levels: dtype of the levels on the wire. The residual absorbs the rounding of bfloat16.
    """

    def __init__(self, levels: torch.dtype = torch.bfloat16) -> None:
        if levels not in (torch.bfloat16, torch.float32):
            raise ValueError(f"levels: expected torch.bfloat16 or torch.float32, got {levels}")
        self.name = "sign"
        self.levels = levels

    def payload_bytes(self, columns: Columns) -> int:
        """Two levels for each group, then whole words of signs."""
        return self._level_bytes(columns) + 4 * columns.words

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
        levels, bits = self._split(payload, columns)
        torch.ops.thinwire.sign_encode(
            gradient, scale, residual, columns.table, new_residual, levels, bits
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
        levels, bits = self._split(payload, columns)
        if divisor != 1:
            levels = levels.float().div_(divisor)  # all decoded values are proportional to them
        torch.ops.thinwire.sign_decode(levels, bits, columns.table, out, accumulate)

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        parts = [self._split(payload, columns) for payload in payloads]
        levels, bits = [part[0] for part in parts], [part[1] for part in parts]
        torch.ops.thinwire.sign_sum(levels, bits, columns.table, out)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """A group's means are finite if and only if its values (and their sums) are."""
        levels, _ = self._split(payload, columns)
        return first_true(~levels.isfinite().all(dim=1))

    def _level_bytes(self, columns: Columns) -> int:
        return 2 * columns.groups * self.levels.itemsize

    def _split(self, payload: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        cut = self._level_bytes(columns)
        return payload[:cut].view(self.levels).view(-1, 2), payload[cut:]
