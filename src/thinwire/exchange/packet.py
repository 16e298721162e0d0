"""Packets: a 16-byte header and one code's payload."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_FORMAT = struct.Struct("<diHH")
HEADER_BYTES = _FORMAT.size
_NUMBERS = 1 << 15  # exchanges are told apart modulo this


@dataclass(frozen=True)
class Remarks:
    """What a worker says beside its values when it sends a bucket.

    Attributes:
        withdrawn: a number >= 0: all workers are to drop this bucket and what was sent before, for
            that reason, as the front end numbers them; then the values do not count.
        idle: whether the worker lacks the gradient of some parameter of the bucket.
        stated: a number from 0 to 65535 that stands for the options which the worker goes by
            (``exchange.alike.digest_of``).
    """

    withdrawn: int | None = None
    idle: bool = False
    stated: int = 0


NO_REMARKS = Remarks()


@dataclass(frozen=True)
class Header:
    """What a worker says about the bucket it sends.

    Attributes:
        samples: how many samples its sub-gradient is the sum over.
        nonfinite_group: the first group of its bucket that holds a NaN or infinity, or -1; below
            that it tells that the worker takes back what it has sent: -2 minus ``withdrawn``.
        sequence: number of this exchange, modulo 2**15; it must be the same on every worker.
        idle: see ``Remarks``.
        stated: see ``Remarks``.
    """

    samples: float
    nonfinite_group: int
    sequence: int
    idle: bool = False
    stated: int = 0

    @property
    def withdrawn(self) -> int | None:
        """Why the worker takes back what it has sent, as the front end numbers the reasons."""
        return -2 - self.nonfinite_group if self.nonfinite_group < -1 else None

    def write(self, packet: Tensor) -> None:
        """Put the header at the start of a uint8 packet."""
        number = self.sequence % _NUMBERS << 1 | self.idle
        raw = bytearray(_FORMAT.pack(self.samples, self.nonfinite_group, number, self.stated))
        packet[:HEADER_BYTES].copy_(torch.frombuffer(raw, dtype=torch.uint8))

    @classmethod
    def read(cls, packet: Tensor) -> "Header":
        """The header at the start of a uint8 packet."""
        raw = packet[:HEADER_BYTES].cpu().numpy().tobytes()
        samples, nonfinite_group, number, stated = _FORMAT.unpack(raw)
        return cls(samples, nonfinite_group, number >> 1, bool(number & 1), stated)

    def belongs_to(self, sequence: int) -> bool:
        """Whether it was sent in the exchange of this number."""
        return self.sequence == sequence % _NUMBERS


def check_sequence(headers: Sequence[Header], sequence: int) -> None:
    """Raise RuntimeError if a worker, in rank order, is at another exchange than this one."""
    for worker, header in enumerate(headers):
        if not header.belongs_to(sequence):
            raise RuntimeError(
                f"worker {worker} is at exchange {header.sequence}, this one at "
                f"{sequence % _NUMBERS}: every worker must hold the same parameters in the same "
                "order and take the same steps"
            )
