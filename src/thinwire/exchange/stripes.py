"""Stripes: which owner aggregates which run of groups (S section 3.1)."""

import itertools
from bisect import bisect_left
from dataclasses import dataclass, replace

import torch

from thinwire.quantize import Columns


@dataclass(frozen=True)
class Stripe:
    """The run of whole groups that one worker owns.

    Attributes:
        start: index of its first value in the bucket.
        stop: one past its last value.
        first_group: index of its first group in the bucket.
        columns: its groups, with offsets from ``start``.
    """

    start: int
    stop: int
    first_group: int
    columns: Columns

    @property
    def values(self) -> int:
        """Number of values."""
        return self.stop - self.start

    def to(self, device: torch.device | str) -> "Stripe":
        """Return the same stripe with the tables of its groups on this device."""
        return replace(self, columns=self.columns.to(device))


def split(columns: Columns, world: int) -> list[Stripe]:
    """Cut a bucket into one stripe for each worker, balanced by bits on the wire.

    The whole bucket is cut, not each parameter, so that small parameters do not all land on one
    worker. With fewer groups than workers some stripes are empty.

    >>> [stripe.values for stripe in split(Columns.from_lengths([256] * 5), 2)]
    [768, 512]
    """
    offsets, words = columns.offsets, columns.word_offsets
    owners = torch.arange(1, world, dtype=torch.float32, device="cpu")
    targets = (owners * (columns.words / world)).long().tolist()

    cuts = [min(bisect_left(words, target), columns.groups) for target in targets]
    bounds = [0, *cuts, columns.groups]
    return [
        Stripe(offsets[first], offsets[last], first, columns.run(first, last))
        for first, last in itertools.pairwise(bounds)
    ]
