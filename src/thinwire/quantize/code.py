"""Codes: how a run of float32 values becomes bytes and back, leaving the error behind.

A code is stateless. Its *payload* is a uint8 tensor of ``payload_bytes(columns)`` bytes, always a
multiple of 4.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

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

    def decode(
        self,
        payload: Tensor,
        columns: Columns,
        out: Tensor,
        accumulate: bool,
        divisor: float = 1.0,
    ) -> None:
        """Write the decoded values to ``out``, or add them to it.

        Args:
            payload: the bytes.
            columns: the groups of the ``n`` values.
            out: float32 ``[n]``.
            accumulate: add.
            divisor: divide the decoded values by this; cheaper than doing it afterwards.
        """
        ...

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """Write the sum of what several payloads decode to, added in the order given.

        Args:
            payloads: at least one, all of these columns.
            columns: the groups of the ``n`` values.
            out: float32 ``[n]``.
        """
        ...

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """The first group into which a NaN or infinity went, or -1."""
        ...


def decode_divided(
    code: Code, payload: Tensor, columns: Columns, out: Tensor, accumulate: bool, divisor: float
) -> None:
    """``code.decode`` with a divisor, for codes that know no better way."""
    if accumulate:
        decoded = torch.empty_like(out)
        code.decode(payload, columns, decoded, accumulate=False)
        out.add_(decoded.div_(divisor))
    else:
        code.decode(payload, columns, out, accumulate=False)
        out.div_(divisor)


def decode_in_turn(code: Code, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
    """``code.sum`` for codes that know no better way."""
    for k, payload in enumerate(payloads):
        code.decode(payload, columns, out, accumulate=k > 0)


def all_finite(values: Tensor) -> bool:
    """Whether there is no NaN or infinity; one pass where all is well.

    No sum with a NaN or infinity in it is finite; one without may overflow.
    """
    return math.isfinite(values.sum(dtype=torch.float32)) or bool(values.isfinite().all())


def first_true(mask: Tensor) -> int:
    """Index of the first True, or -1."""
    return int(mask.to(torch.uint8).argmax()) if bool(mask.any()) else -1
