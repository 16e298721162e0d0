"""The order in which an epoch visits samples: a permutation, of which a part at a time is told."""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

Part = Callable[[int, int], Tensor]
"""(first, last) -> numbers of the samples at these positions of an epoch, int64 [last - first]."""


class Order(Protocol):
    """Every sample once, in an order that depends on nothing but the words."""

    def epoch(self, words: str) -> Part:
        """Return the order of one epoch.

        Args:
            words: the seed and the number of the epoch.
        """


def seeded(words: str) -> torch.Generator:
    """Make a generator on the CPU that starts the same way for the same words."""
    # Four bytes, since that is all of a seed that torch's CPU generator uses.
    digest = hashlib.blake2b(words.encode(), digest_size=4).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest, "little"))


class Shuffled:
    """All samples in random order; the whole order is in memory.

    Args:
        size: number of samples.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def epoch(self, words: str) -> Part:
        """Draw the order of one epoch."""
        order = torch.randperm(self._size, generator=seeded(words), dtype=torch.int64, device="cpu")
        # A copy: a view would keep, and send along when it is sent, the whole epoch's order.
        return lambda first, last: order[first:last].clone()


class Windows:
    """Runs of samples in random order, and the samples of the runs of one window in random order.

    A window is as many runs, one after the other, as have at most a given number of samples
    together, or one longer run. The order of one window is in memory, and whoever reads samples in
    this order needs the runs of no more than one window at a time, or two at the border.

    Args:
        ends: int64 [runs], where each run of samples ends; run 0 begins with sample 0.
        window: samples.
    """

    def __init__(self, ends: Tensor, window: int) -> None:
        self._starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        self._lengths, self._window = ends - self._starts, window

    def epoch(self, words: str) -> Part:
        """Draw the order of one epoch."""
        runs = torch.randperm(len(self._lengths), generator=seeded(f"{words} runs"))
        reached = self._lengths[runs].cumsum(0)
        borders = _borders(reached, self._window)
        begins = [0, *(int(reached[border - 1]) for border in borders[1:])]  # in samples
        held, order = -1, torch.empty(0, dtype=torch.int64)

        def part(first: int, last: int) -> Tensor:
            nonlocal held, order
            pieces = [torch.empty(0, dtype=torch.int64)]
            for number, (begin, end) in enumerate(pairwise(begins)):
                if begin >= last or end <= first:
                    continue
                if number != held:
                    chosen = runs[borders[number] : borders[number + 1]]
                    held, order = number, self._shuffled(chosen, f"{words} window {number}")
                pieces.append(order[max(0, first - begin) : last - begin])
            return torch.cat(pieces)

        return part

    def _shuffled(self, runs: Tensor, words: str) -> Tensor:
        """The samples of some runs in random order."""
        numbers = numbers_of(self._starts[runs], self._lengths[runs])
        return numbers[torch.randperm(len(numbers), generator=seeded(words))]


def numbers_of(starts: Tensor, lengths: Tensor) -> Tensor:
    """List the samples of runs, one run after the other.

    >>> numbers_of(torch.tensor([7, 2]), torch.tensor([2, 3])).tolist()
    [7, 8, 2, 3, 4]
    """
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + (starts - before).repeat_interleave(lengths)


def _borders(reached: Tensor, window: int) -> list[int]:
    """Where windows begin, in runs, and where the last one ends.

    >>> _borders(torch.tensor([3, 5, 12, 14]), 6)
    [0, 2, 3, 4]
    """
    borders, begun = [0], 0
    while borders[-1] < len(reached):
        border = int(torch.searchsorted(reached, begun + window, right=True))
        borders.append(max(border, borders[-1] + 1))
        begun = int(reached[borders[-1] - 1])
    return borders
