"""Stripes: which owner aggregates which run of groups (S section 3.1); slices: what goes together.

A large bucket travels in several slices, so that while one is on the wire the next is quantised and
the last decoded. Slice i holds the i-th part of *every* stripe, so each slice keeps all owners and
all links equally busy, and who owns what does not depend on the slices.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thinwire.quantize import Columns

MOST_SLICES = 4
SLICE_VALUES = 3 << 20  # at least so many in each: a slice costs a message and a wake-up per peer


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

    def cut(self, count: int) -> "list[Stripe]":
        """The same run as ``count`` runs of whole groups, balanced by bits."""
        return [
            Stripe(
                self.start + part.start,
                self.start + part.stop,
                self.first_group + part.first_group,
                part.columns,
            )
            for part in split(self.columns, count)
        ]


def split(columns: Columns, world: int) -> list[Stripe]:
    """Cut a bucket into one stripe for each worker, balanced by bits on the wire.

    The whole bucket is cut, not each parameter, so that small parameters do not all land on one
    worker. With fewer groups than workers some stripes are empty.

    >>> [stripe.values for stripe in split(Columns.from_lengths([256] * 5), 2)]
    [768, 512]
    """
    offsets, words = columns.table
    targets = torch.arange(1, world) * (columns.words / world)
    cuts = torch.searchsorted(words, targets.to(words.dtype)).clamp(max=columns.groups)
    bounds = [0, *cuts.tolist(), columns.groups]
    return [
        Stripe(int(offsets[first]), int(offsets[last]), first, columns.run(first, last))
        for first, last in itertools.pairwise(bounds)
    ]


def cut_slices(stripes: Sequence[Stripe]) -> list[list[Stripe]]:
    """For each slice of a bucket the part of every stripe that travels in it.

    >>> owners = split(Columns.from_lengths([2048] * 3072), 4)
    >>> [[part.start for part in parts] for parts in cut_slices(owners)]
    [[0, 1572864, 3145728, 4718592], [786432, 2359296, 3932160, 5505024]]
    """
    count = max(1, min(MOST_SLICES, stripes[-1].stop // SLICE_VALUES))
    return [list(parts) for parts in zip(*(stripe.cut(count) for stripe in stripes), strict=True)]
