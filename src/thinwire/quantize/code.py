"""Codes: how a run of float32 values becomes bytes and back, leaving the error behind.

A code is stateless. Its *payload* is a uint8 tensor of ``payload_bytes(columns)`` bytes, always a
multiple of 4.
"""

from typing import Protocol

import torch
from torch import Tensor

import thinwire.kernels  # noqa: F401  (registers the operators)
from thinwire.quantize.columns import Columns


class Code(Protocol):
    """What every code does. ``n`` is the number of values, G of groups in ``columns``."""

    name: str

    def payload_bytes(self, columns: Columns) -> int:
        """Bytes on the wire for these columns."""
        ...

    def encode(
        self,
        gradient: Tensor,
        scale: float,
        residual: Tensor,
        columns: Columns,
        new_residual: Tensor,
        payload: Tensor,
    ) -> None:
        """Write ``v = scale * gradient + residual`` as a payload and keep the error.

        Args:
            gradient: ``[n]``; float32, bfloat16 or float16.
            scale: factor on the gradient, usually the number of samples it is the mean of.
            residual: float32 ``[n]``, the error carried from the step before.
            columns: the groups of the ``n`` values.
            new_residual: float32 ``[n]``, receives ``v - decoded(v)``; may be ``gradient``'s or
                ``residual``'s own memory.
            payload: receives the bytes.
        """
        ...

    def decode(self, payload: Tensor, columns: Columns, out: Tensor, accumulate: bool) -> None:
        """Write the decoded values to ``out`` (float32 ``[n]``), or add them to it."""
        ...

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """The first group into which a NaN or infinity went, or -1."""
        ...


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

    def decode(self, payload: Tensor, columns: Columns, out: Tensor, accumulate: bool) -> None:
        """See ``Code.decode``."""
        levels, bits = self._split(payload, columns)
        torch.ops.thinwire.sign_decode(levels, bits, columns.table, out, accumulate)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """A group's means are finite if and only if its values (and their sums) are."""
        levels, _ = self._split(payload, columns)
        return _first(~levels.isfinite().all(dim=1))

    def _level_bytes(self, columns: Columns) -> int:
        return 2 * columns.groups * self.levels.itemsize

    def _split(self, payload: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        cut = self._level_bytes(columns)
        return payload[:cut].view(self.levels).view(-1, 2), payload[cut:]


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

    def decode(self, payload: Tensor, columns: Columns, out: Tensor, accumulate: bool) -> None:
        """See ``Code.decode``."""
        values = payload.view(torch.float32)
        if accumulate:
            out.add_(values)
        else:
            out.copy_(values)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """See ``Code.nonfinite_group``."""
        value = _first(~payload.view(torch.float32).isfinite())
        return -1 if value < 0 else columns.group_of(value)


_CODES = {"sign": SignCode, "float32": Float32Code}


def named_code(name: str) -> Code:
    """The code of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in _CODES:
        raise ValueError(f"code: expected one of {', '.join(_CODES)}, got {name!r}")
    code: Code = _CODES[name]()
    return code


def _first(mask: Tensor) -> int:
    """Index of the first True, or -1."""
    return int(mask.to(torch.uint8).argmax()) if bool(mask.any()) else -1
