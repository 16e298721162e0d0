"""The 1-bit code behind a rotation, for gradients with heavy tails.

The sign code keeps (E|v|)^2 / E v^2 of a symmetrical group's energy: 2/pi = 0.64 of a normal one's,
but 0.24 of Student's t with two degrees of freedom (n = 2048). After an orthogonal rotation that
mixes up to 512 values (``kernels.reference.rotated``) every group looks normal, so the first figure
always holds; a level for each block of 512 follows what differs between blocks. The error a step
leaves behind, and hence the delay that error feedback is, no longer depends on the tails.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

import thinwire.kernels  # noqa: F401  (registers the operators)
from thinwire.quantize.code import first_true
from thinwire.quantize.columns import Columns


class RotatedSignCode:
    """Signs of randomly rotated blocks, one level a block: as small as the sign code.

    Args:
        levels: dtype of the levels on the wire. The residual absorbs the rounding of bfloat16.
    """

    def __init__(self, levels: torch.dtype = torch.bfloat16) -> None:
        if levels not in (torch.bfloat16, torch.float32):
            raise ValueError(f"levels: expected torch.bfloat16 or torch.float32, got {levels}")
        self.name = "rotated"
        self.levels = levels

    def payload_bytes(self, columns: Columns) -> int:
        """A level for each block, padded to 4 bytes, then whole words of signs a group."""
        count = self._count(columns) * self.levels.itemsize
        return (count + 3) // 4 * 4 + 4 * columns.words

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
        levels, bits, padding = self._split(payload, columns)
        torch.ops.thinwire.rotated_encode(
            gradient, scale, residual, columns.block_table, new_residual, levels, bits
        )
        padding.zero_()

    def decode(
        self,
        payload: Tensor,
        columns: Columns,
        out: Tensor,
        accumulate: bool,
        divisor: float = 1.0,
    ) -> None:
        """See ``Code.decode``."""
        levels, bits, _ = self._split(payload, columns)
        if divisor != 1:
            levels = levels.float().div_(divisor)  # all decoded values are proportional to them
        torch.ops.thinwire.rotated_decode(levels, bits, columns.block_table, out, accumulate)

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        parts = [self._split(payload, columns) for payload in payloads]
        levels, bits = [part[0] for part in parts], [part[1] for part in parts]
        torch.ops.thinwire.rotated_sum(levels, bits, columns.block_table, out)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """A group's mean magnitudes are finite if and only if its values (and their sums) are."""
        levels, _, _ = self._split(payload, columns)
        level = first_true(~levels.isfinite())
        if level < 0:
            return -1
        ends = columns.block_table[2, 1:].contiguous()
        return int(torch.searchsorted(ends, level, right=True))

    def _count(self, columns: Columns) -> int:
        return int(columns.block_table[2, -1])

    def _split(self, payload: Tensor, columns: Columns) -> tuple[Tensor, Tensor, Tensor]:
        used = self._count(columns) * self.levels.itemsize
        cut = (used + 3) // 4 * 4
        return payload[:used].view(self.levels), payload[cut:], payload[used:cut]
