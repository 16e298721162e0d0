"""The codes that have kernels: levels for groups of values, and a few bits for each value.

``sign`` is the code of the paper (S section 3). ``rotated`` is the same behind a rotation, for
gradients with heavy tails: the sign code keeps (E|v|)^2 / E v^2 of a symmetrical group's energy,
which is 2/pi = 0.64 of a normal one's, but 0.24 of Student's t with two degrees of freedom
(n = 2048). After an orthogonal rotation that mixes up to 512 values (``kernels.reference.rotated``)
every group looks normal, so the first figure always holds; a level for each block of 512 follows
what differs between blocks. The error a step leaves behind, and hence the delay that error feedback
is, no longer depends on the tails. ``uniform`` codes are the knob between these and float32: the
error of a value is at most half a step, (hi - lo) / (2^b - 1) / 2, apart from rounding. Their
extremes are those of short runs of a group (``Columns.runs``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from thinwire.kernels import FAMILIES, OPERATORS
from thinwire.quantize.code import first_true
from thinwire.quantize.columns import Columns


class KernelCode:
    """A code whose work is done by one family of kernels.

    A payload is the levels, padded with zeros to 4 bytes, and then whole words of packed values for
    each group.

    Args:
        name: the code's.
        family: one of ``kernels.FAMILIES``.
        bits: bits a value, one of the family's widths.
        levels: dtype of the levels on the wire. The residual absorbs the rounding of bfloat16.
        runs: whether the values of a short run of a group share levels, and not the whole group's.
    """

    kernels: ClassVar[Mapping[str, Callable[..., None]]] = OPERATORS

    def __init__(
        self,
        name: str,
        family: str,
        bits: int = 1,
        levels: torch.dtype = torch.bfloat16,
        *,
        runs: bool = False,
    ) -> None:
        row = FAMILIES[family]
        if bits not in row.widths:
            raise ValueError(f"bits: expected one of {row.widths}, got {bits}")
        if levels not in row.level_types:
            expected = " or ".join(map(str, row.level_types))
            raise ValueError(f"levels: expected {expected}, got {levels}")
        self.name, self.bits, self.levels = name, bits, levels
        self._in_blocks, self._in_runs = row.layout_rows == 3, runs
        self._scales = torch.float32 in row.level_types  # so divided levels need no rounding
        self._encode, self._decode = f"{family}_encode", f"{family}_decode"
        self._sum = f"{family}_sum"

    def payload_bytes(self, columns: Columns) -> int:
        """Return the bytes of levels and packed values."""
        level_bytes = self._count(columns) * self.levels.itemsize
        return (level_bytes + 3) // 4 * 4 + 4 * self._of(columns).packed_words(self.bits)

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
        layout = self._layout(columns)
        self.kernels[self._encode](
            gradient, scale, residual, layout, self.bits, new_residual, levels, packed
        )
        padding = -levels.nbytes % 4
        if padding:
            payload[levels.nbytes :][:padding] = 0

    def decode(
        self,
        payload: Tensor,
        columns: Columns,
        out: Tensor,
        accumulate: bool,
        divisor: float = 1.0,
    ) -> None:
        """See ``Code.decode``."""
        levels, packed = self._split(payload, columns)
        layout, into, add = self._layout(columns), out, accumulate
        if divisor != 1 and self._scales:
            levels = levels.float() / divisor  # all decoded values are proportional to them
        elif divisor != 1 and accumulate:
            into, add = torch.empty_like(out), False
        self.kernels[self._decode](levels, packed, layout, self.bits, into, add)
        if divisor != 1 and not self._scales:
            into.div_(divisor)
            if accumulate:
                out.add_(into)

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        parts = [self._split(payload, columns) for payload in payloads]
        levels, packed = [part[0] for part in parts], [part[1] for part in parts]
        self.kernels[self._sum](levels, packed, self._layout(columns), self.bits, out)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """See ``Code.nonfinite_group``; levels are finite if and only if their values are."""
        levels, _ = self._split(payload, columns)
        level = first_true(~levels.isfinite().view(-1))
        if level < 0:
            return -1
        if self._in_blocks:
            return columns.group_of_block(level)
        return columns.group_of(self._of(columns).offsets[level // 2])

    def _of(self, columns: Columns) -> Columns:
        """What shares levels."""
        return columns.runs if self._in_runs else columns

    def _layout(self, columns: Columns) -> Tensor:
        return columns.block_table if self._in_blocks else self._of(columns).packed_table(self.bits)

    def _count(self, columns: Columns) -> int:
        return columns.blocks if self._in_blocks else 2 * self._of(columns).groups

    def _split(self, payload: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """The levels and the packed values, as views."""
        used = self._count(columns) * self.levels.itemsize
        levels = payload[:used].view(self.levels)
        if not self._in_blocks:
            levels = levels.view(-1, 2)
        return levels, payload[(used + 3) // 4 * 4 :]


class SignCode(KernelCode):
    """One bit a value and two levels a group (S section 3): about 31 times smaller than float32.

    Args:
        levels: dtype of the levels on the wire, torch.bfloat16 or torch.float32.
    """

    def __init__(self, levels: torch.dtype = torch.bfloat16) -> None:
        super().__init__("sign", "sign", 1, levels)


class RotatedSignCode(KernelCode):
    """Signs of randomly rotated blocks, one level a block: as small as the sign code.

    Args:
        levels: dtype of the levels on the wire, torch.bfloat16 or torch.float32.
    """

    def __init__(self, levels: torch.dtype = torch.bfloat16) -> None:
        super().__init__("rotated", "rotated", 1, levels)


class UniformCode(KernelCode):
    """``bits`` bits a value between the extremes of its run (``kernels.reference.uniform``).

    Args:
        bits: 2, 4 or 8.
    """

    def __init__(self, bits: int) -> None:
        super().__init__(f"{bits}-bit", "uniform", bits, runs=True)
