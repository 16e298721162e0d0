"""Codes: how a run of float32 values becomes bytes and back, leaving the error behind.

A code is stateless. Its *payload* is a uint8 tensor of ``payload_bytes(columns)`` bytes, always a
multiple of 4.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from thinwire.quantize.columns import Columns


class Code(Protocol):
    """What every code does. ``n`` is the number of values, G of groups in ``columns``.

    Values, payloads and the tables of ``columns`` lie on one device (``Columns.to``). Only
    ``nonfinite_group`` makes the host wait for that device.
    """

    name: str

    def __hash__(self) -> int:
        """Codes are stateless, hence may be keys of caches; Python's own hash will do."""
        ...

    def payload_bytes(self, columns: Columns) -> int:
        """Return the bytes on the wire for these columns, a multiple of 4."""
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
            payload: receives the bytes, all of them.
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
        """Return the first group into which a NaN or infinity went, or -1.

        This is the one question whose answer the host needs at once, because all workers skip a
        step together: it reads the payload back from its device.
        """
        ...


class CodeDefaults(ABC):
    """A ``Code`` made of ``name``, ``payload_bytes``, ``quantise`` and ``reconstruct``.

    A code of your own needs no more than these four; the other methods can be overridden where
    there is a faster way.
    """

    name: str

    @abstractmethod
    def payload_bytes(self, columns: Columns) -> int:
        """See ``Code.payload_bytes``."""

    @abstractmethod
    def quantise(self, values: Tensor, columns: Columns, payload: Tensor) -> None:
        """Write values as bytes.

        Args:
            values: float32 ``[n]``, not to be changed.
            columns: the groups of the ``n`` values.
            payload: uint8 ``[payload_bytes(columns)]``, receives the bytes, all of them. A group
                that holds a NaN or infinity must be written so that it decodes to at least one.
        """

    @abstractmethod
    def reconstruct(self, payload: Tensor, columns: Columns) -> Tensor:
        """Return the values that bytes stand for, ``[n]``, float32 or a narrower float."""

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
        self.quantise(wanted, columns, payload)
        torch.sub(wanted, self.reconstruct(payload, columns), out=new_residual)

    def decode(
        self,
        payload: Tensor,
        columns: Columns,
        out: Tensor,
        accumulate: bool,
        divisor: float = 1.0,
    ) -> None:
        """See ``Code.decode``."""
        values = self.reconstruct(payload, columns)
        if divisor != 1:
            values = values.float() / divisor
        if accumulate:
            out.add_(values)
        else:
            out.copy_(values)

    def sum(self, payloads: Sequence[Tensor], columns: Columns, out: Tensor) -> None:
        """See ``Code.sum``."""
        for k, payload in enumerate(payloads):
            self.decode(payload, columns, out, accumulate=k > 0)

    def nonfinite_group(self, payload: Tensor, columns: Columns) -> int:
        """See ``Code.nonfinite_group``."""
        values = self.reconstruct(payload, columns)
        if all_finite(values):
            return -1
        return columns.group_of(first_true(~values.isfinite()))


def check_code(code: Code) -> Code:
    """Return the code, or say why it cannot be used.

    Raises:
        TypeError: a method of ``Code`` is missing.
        ValueError: there is no name, or the size of a payload is not a multiple of 4 bytes.
    """
    for method in ("payload_bytes", "encode", "decode", "sum", "nonfinite_group"):
        if not callable(getattr(code, method, None)):
            raise TypeError(
                f"code: expected an object with a method {method}, got {code!r}; a subclass of "
                "thinwire.quantize.CodeDefaults has all but four of them already"
            )
    name = getattr(code, "name", None)
    if not (isinstance(name, str) and name):
        raise ValueError(f"code: expected a name, got {name!r} as the name of {code!r}")
    for lengths in ([], [1], [40, 300, 7]):
        size = code.payload_bytes(Columns.from_lengths(lengths))
        if size % 4:
            raise ValueError(
                f"code {name!r}: expected a payload of a multiple of 4 bytes, got {size} bytes for "
                f"groups of {lengths} values; pad it with zeros"
            )
    return code


def all_finite(values: Tensor) -> bool:
    """Return whether there is no NaN or infinity; one pass where all is well.

    No sum with a NaN or infinity in it is finite; one without may overflow.
    """
    return math.isfinite(values.sum(dtype=torch.float32)) or bool(values.isfinite().all())


def first_true(mask: Tensor) -> int:
    """Return the index of the first True, or -1."""
    return int(mask.to(torch.uint8).argmax()) if bool(mask.any()) else -1
