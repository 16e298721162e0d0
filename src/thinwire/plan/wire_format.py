"""The compression factor Z as thinwire's packets have it: signs, levels, padding and headers.

S takes Z = 32 for one bit. On the wire a column also carries two levels, its signs fill whole
words, a packet begins with a header, and the largest one says how long stage 2 takes. All of that
is taken from the code that makes the packets, so it cannot drift from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from thinwire.exchange import HEADER_BYTES, split
from thinwire.quantize import CodeLike, Columns, FlatSpace, stage_codes

Shape = tuple[int, ...]
Codes = CodeLike | tuple[CodeLike, CodeLike]


@dataclass(frozen=True)
class BucketBytes:
    """What the busiest worker sends for one bucket in one exchange.

    Attributes:
        gradients: stage 1, one packet to each other owner.
        packet: stage 2, the packet every other worker gets.
        workers: K.
    """

    gradients: int
    packet: int
    workers: int

    @property
    def updates(self) -> int:
        """Stage 2: the packet, once for each peer."""
        return (self.workers - 1) * self.packet

    @property
    def total(self) -> int:
        """Both stages."""
        return self.gradients + self.updates


def bucket_bytes(shapes: Sequence[Shape], code: Codes, workers: int) -> BucketBytes:
    """Return the bytes of one bucket.

    Args:
        shapes: of the bucket's parameters, in any order.
        code: a code or its registered name, for both stages or a pair, one for each.
        workers: K; one worker sends nothing.

    >>> bucket_bytes([(4, 1024)], "sign", 2)  # 2 columns of 1024 each: 16 + 2 (4 + 128)
    BucketBytes(gradients=280, packet=280, workers=2)
    """
    return _bucket_bytes(tuple(map(tuple, shapes)), code, workers)


@lru_cache(maxsize=4096)
def _bucket_bytes(shapes: tuple[Shape, ...], code: Codes, workers: int) -> BucketBytes:
    if workers == 1:
        return BucketBytes(0, 0, 1)
    stripes = split(_columns(shapes), workers)
    gradients, updates = (
        [HEADER_BYTES + made.payload_bytes(stripe.columns) for stripe in stripes]
        for made in stage_codes(code)
    )
    return BucketBytes(sum(gradients) - min(gradients), max(updates), workers)


@lru_cache(maxsize=64)
def _columns(shapes: tuple[Shape, ...]) -> Columns:
    return FlatSpace([torch.Size(shape) for shape in shapes]).columns


def values(shapes: Sequence[Shape]) -> int:
    """Return the number of values in parameters of these shapes."""
    return sum(math.prod(shape) for shape in shapes)


def compression(buckets: Sequence[Sequence[Shape]], code: Codes, workers: int) -> float:
    """Return Z: the bytes of a float32 ring all-reduce over those of the two stages.

    Args:
        buckets: shapes of the parameters, by bucket.
        code: see ``bucket_bytes``.
        workers: K, at least 2.

    >>> round(compression([[(2048, 2048)] * 7], "sign", 4), 1)
    31.5
    >>> round(compression([[(64, 64)]], "float32", 2), 3)  # headers
    0.998
    """
    dense = sum(8 * values(shapes) for shapes in buckets) * (workers - 1) / workers
    return dense / sum(bucket_bytes(shapes, code, workers).total for shapes in buckets)
