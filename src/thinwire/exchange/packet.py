"""Packets: a 16-byte header and one code's payload."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_FORMAT = struct.Struct("<dii")
HEADER_BYTES = _FORMAT.size


@dataclass(frozen=True)
class Header:
    """What a worker says about the bucket it sends.

    Attributes:
        samples: how many samples its sub-gradient is the sum over.
        nonfinite_group: the first group of its bucket (in a packet: of its slice of the bucket)
            that holds a NaN or infinity, or -1.
        sequence: number of this exchange; it must be the same on every worker.
    """

    samples: float
    nonfinite_group: int
    sequence: int

    def write(self, packet: Tensor) -> None:
        """Put the header at the start of a uint8 packet."""
        raw = bytearray(_FORMAT.pack(self.samples, self.nonfinite_group, self.sequence))
        packet[:HEADER_BYTES].copy_(torch.frombuffer(raw, dtype=torch.uint8))

    @classmethod
    def read(cls, packet: Tensor) -> "Header":
        """The header at the start of a uint8 packet."""
        return cls(*_FORMAT.unpack(packet[:HEADER_BYTES].cpu().numpy().tobytes()))


def read_headers(packets: list[Tensor], sequence: int) -> list[Header]:
    """The headers of one packet from every worker.

    Raises:
        RuntimeError: a worker is at another exchange than this one.
    """
    headers = [Header.read(packet) for packet in packets]
    for worker, header in enumerate(headers):
        if header.sequence != sequence:
            raise RuntimeError(
                f"worker {worker} is at exchange {header.sequence}, this one at {sequence}: every "
                "worker must hold the same parameters in the same order and take the same steps"
            )
    return headers


def merge_headers(of_slices: Sequence[list[Header]]) -> list[Header]:
    """For each worker what the headers of all its slices say together."""
    merged = []
    for headers in zip(*of_slices, strict=True):
        groups = [header.nonfinite_group for header in headers if header.nonfinite_group >= 0]
        first = headers[0]
        merged.append(Header(first.samples, min(groups, default=-1), first.sequence))
    return merged
